"""What recording costs a training: every form of `shardprof record` against the same job without it.

    python benchmarks/recording_overhead.py [--rounds 5] [--output FILE.json]

Three measurements, since a whole run scatters by more than the targets of 1 and 2 %:
- by blocks: one recorded job runs its hooks for a block of steps, does without them for the next, and so on; each two
  neighbours are a pair (hook_cost.py). This tells what the hooks and the record of a step cost the rank.
- by windows: in one job steps are captured by shardprof and by torch.profiler in turns (captured_cost.py). This tells
  what captured steps cost, and what they cost more than torch.profiler alone.
- by runs: in each round every form once, in random order; each is compared with the bare run of its round. This tells
  what all of it costs the machine, the recorder's process with its counters included, in CPU seconds of the job.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from captured_cost import CAPTURED, CYCLE, FIRST
from measuring import machine, measure

HERE = Path(__file__).parent
STEPS = 60
LOG_EVERY = 5
STEP_LINE = re.compile(r"^step\s+(\d+)/\d+ .* ([\d.]+) ms/step", re.MULTILINE)
BLOCKS, BLOCK_STEPS = 120, 5
CYCLES = 25
TRAININGS = {"FSDP2 full shard": ("fsdp2-full", 2), "DeepSpeed ZeRO-3": ("zero3", 2), "one process": ("none", 1)}
LIGHT = ("--mode", "light")
FORMS: dict[str, tuple[str, ...] | None] = {
    "bare": None,
    "light": LIGHT,
    "light, watchdog": (*LIGHT, "--watchdog", "60"),
    "light, stacks": (*LIGHT, "--stacks"),
}


@dataclass(frozen=True)
class Run:
    """One run: step times as the training prints them, CPU of the whole job, what the recorder said it cost itself."""

    step_ms: float
    cpu_s: float
    counter_cores: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where all samples go, as JSON")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name, (strategy, ranks) in TRAININGS.items():
        blocks = by_blocks(strategy, ranks)
        runs = by_runs(strategy, ranks, args.rounds)
        windows = by_windows(strategy, ranks)
        results[name] = {
            "blocks": blocks,
            "windows": windows,
            "runs": {form: [asdict(run) for run in of_form] for form, of_form in runs.items()},
        }
        show(name, blocks, windows, runs)
    if args.output:
        args.output.write_text(
            json.dumps({"machine": machine("torch", "deepspeed"), "results": results}, indent=1) + "\n"
        )


def by_blocks(strategy: str, ranks: int) -> list[tuple[float, float]]:
    """Wall and CPU seconds of the blocks of one job, the first one recorded, the second one not, and so on."""
    steps = (BLOCKS + 2) * BLOCK_STEPS
    times: list[tuple[float, float]] = told_by("hook_cost", [BLOCKS, BLOCK_STEPS], LIGHT, ranks, strategy, steps)
    return times


def by_windows(strategy: str, ranks: int) -> list[dict[str, tuple[float, float]]]:
    """Of each window of one job, by turns shardprof's and torch's, what captured_cost.py tells."""
    plan = ("--steps", f"{FIRST}:{FIRST + CAPTURED}", "--repeat", str(CYCLES))
    steps = FIRST + CYCLE * CYCLES
    windows: list[dict[str, tuple[float, float]]] = told_by("captured_cost", [CYCLES], plan, ranks, strategy, steps)
    return windows


def told_by(script: str, args: Sequence[int], options: Sequence[str], ranks: int, strategy: str, steps: int) -> Any:
    """What a training of this folder prints of itself when it is recorded with `options`."""
    command = job(ranks, [str(HERE / f"{script}.py"), *map(str, args)], strategy, steps)
    with tempfile.TemporaryDirectory() as folder:
        _, printed = measure([*recorded(Path(folder) / "run", options), *command], {"DS_ACCELERATOR": "cpu"})
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{script} ")]
    return json.loads(line.removeprefix(f"{script} "))


def by_runs(strategy: str, ranks: int, rounds: int) -> dict[str, list[Run]]:
    samples: dict[str, list[Run]] = {form: [] for form in FORMS}
    order = random.Random(0)
    for number in range(rounds + 1):
        for form in order.sample(list(samples), len(samples)):
            run = one_run(strategy, ranks, form)
            if number:  # the first round warms the caches
                samples[form].append(run)
            print(f"{strategy} round {number}/{rounds} {form}: {run.step_ms:.1f} ms a step", file=sys.stderr)
    return samples


def one_run(strategy: str, ranks: int, form: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = job(ranks, ["-m", "shardprof.study.workloads.vit"], strategy, STEPS)
        options = FORMS[form]
        if options is not None:
            command = [*recorded(out, options), *command]
        sample, printed = measure(command, {"DS_ACCELERATOR": "cpu"})
        costs = json.loads((out / "run.json").read_text())["counter_costs"] if options is not None else []
    return Run(
        step_ms=median(float(ms) for number, ms in STEP_LINE.findall(printed) if int(number) > LOG_EVERY),
        cpu_s=sample.cpu_s,
        counter_cores={cost["source"]: cost["cost_ns"] / 1e9 / sample.wall_s for cost in costs},
    )


def recorded(out: Path, options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "shardprof", "record", "--out", str(out), *options, "--"]


def job(ranks: int, script: Sequence[str], strategy: str, steps: int) -> list[str]:
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", str(ranks)]
    length = ["--steps", str(steps), "--log-every", str(LOG_EVERY)]
    return [
        *torchrun,
        *script,
        "--data",
        "digits",
        "--strategy",
        strategy,
        *length,
        "--batch-size",
        "16",
        "--threads",
        "1",
    ]


def show(
    name: str,
    blocks: list[tuple[float, float]],
    windows: list[dict[str, tuple[float, float]]],
    runs: dict[str, list[Run]],
) -> None:
    bare = runs["bare"]
    print(f"\n{name}: bare step {spread([run.step_ms for run in bare])} ms")
    for what, index in (("wall time", 0), ("CPU time of the rank", 1)):
        ratios = [on[index] / off[index] for on, off in zip(blocks[::2], blocks[1::2], strict=False)]
        print(f"  always on, {len(ratios)} pairs of blocks: {what} x{with_interval(ratios)}")
    for what, index in (("wall time", 0), ("CPU time of the rank", 1)):
        show_windows(what, [{part: times[index] for part, times in window.items()} for window in windows])
    for form, of_form in runs.items():
        if form == "bare":
            continue
        cpu = [a.cpu_s / b.cpu_s for a, b in zip(of_form, bare, strict=True)]
        cores = {source: median(run.counter_cores[source] for run in of_form) for source in of_form[0].counter_cores}
        counters = "   ".join(f"{source} {100 * share:.2f} % of a core" for source, share in cores.items())
        print(f"  {form:<16} CPU x{spread(cpu)}   {counters}")


def show_windows(what: str, windows: list[dict[str, float]]) -> None:
    ours, theirs = windows[::2], windows[1::2]
    for whose, some in (("shardprof", ours), ("torch.profiler", theirs)):
        parts = (f"{part} {1e3 * median(window[part] for window in some):.0f}" for part in some[0])
        print(f"  captured by {whose}, {what} in ms: {', '.join(parts)}")
    for part in ours[0]:
        ratios = [a[part] / b[part] for a, b in zip(ours, theirs, strict=True)]
        print(f"    shardprof / torch.profiler, {part}: x{with_interval(ratios)}")


def spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def with_interval(values: list[float]) -> str:
    """The median, and where that of what these are samples of lies in 95 of 100 cases, by resampling them."""
    resample = random.Random(0)
    medians = sorted(median(resample.choices(values, k=len(values))) for _ in range(2000))
    return f"{median(values):.4f} (95 %: {medians[49]:.4f}..{medians[-50]:.4f})"


if __name__ == "__main__":
    main()
