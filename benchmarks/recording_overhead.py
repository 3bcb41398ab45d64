"""What recording costs a training: every form of `shardprof record` against the same job without it.

    python benchmarks/recording_overhead.py [--rounds 5] [--output FILE.json]

Two measurements, since a whole run scatters by more than the target of 1 %:
- by blocks: one recorded job runs its hooks for a block of steps, does without them for the next, and so on; each two
  neighbours are a pair (hook_cost.py). This tells what the hooks and the record of a step cost the rank.
- by runs: in each round every form once, in random order; each is compared with the bare run of its round. This tells
  what all of it costs the machine, the recorder's process with its counters included, in CPU seconds of the job; and
  what captured steps cost beside torch.profiler alone on the same steps (own_profiler.py).
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

from measuring import machine, measure

HERE = Path(__file__).parent
STEPS = 60
CAPTURED = (20, 25)
LOG_EVERY = 5
STEP_LINE = re.compile(r"^step\s+(\d+)/\d+ .* ([\d.]+) ms/step", re.MULTILINE)
BLOCKS, BLOCK_STEPS = 120, 5
TRAININGS = {"FSDP2 full shard": ("fsdp2-full", 2), "DeepSpeed ZeRO-3": ("zero3", 2), "one process": ("none", 1)}
LIGHT = ("--mode", "light")
FORMS: dict[str, tuple[str, ...] | None] = {
    "bare": None,
    "light": LIGHT,
    "light, watchdog": (*LIGHT, "--watchdog", "60"),
    "light, stacks": (*LIGHT, "--stacks"),
    "captured": ("--steps", f"{CAPTURED[0]}:{CAPTURED[1]}"),
}
OWN_PROFILER = "torch.profiler"


@dataclass(frozen=True)
class Run:
    """One run: step times as the training prints them, CPU of the whole job, what the recorder said it cost itself."""

    step_ms: float
    captured_step_ms: float
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
        results[name] = {
            "blocks": blocks, "runs": {form: [asdict(run) for run in of_form] for form, of_form in runs.items()}
        }  # fmt: skip
        show(name, blocks, runs)
    if args.output:
        args.output.write_text(
            json.dumps({"machine": machine("torch", "deepspeed"), "results": results}, indent=1) + "\n"
        )


def by_blocks(strategy: str, ranks: int) -> list[tuple[float, float]]:
    """Wall and CPU seconds of the blocks of one job, the first one recorded, the second one not, and so on."""
    steps = (BLOCKS + 2) * BLOCK_STEPS
    script = [str(HERE / "hook_cost.py"), str(BLOCKS), str(BLOCK_STEPS)]
    with tempfile.TemporaryDirectory() as folder:
        command = [*recorded(Path(folder) / "run", LIGHT), *job(ranks, script, strategy, steps)]
        _, printed = measure(command, {"DS_ACCELERATOR": "cpu"})
    (line,) = [line for line in printed.splitlines() if line.startswith("hook_cost ")]
    times: list[tuple[float, float]] = json.loads(line.removeprefix("hook_cost "))
    return times


def by_runs(strategy: str, ranks: int, rounds: int) -> dict[str, list[Run]]:
    samples: dict[str, list[Run]] = {form: [] for form in [*FORMS, OWN_PROFILER]}
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
        script = [str(HERE / "own_profiler.py"), *map(str, CAPTURED)] if form == OWN_PROFILER else []
        command = job(ranks, script or ["-m", "shardprof.study.workloads.vit"], strategy, STEPS)
        options = FORMS.get(form)
        if options is not None:
            command = [*recorded(out, options), *command]
        sample, printed = measure(command, {"DS_ACCELERATOR": "cpu"})
        costs = json.loads((out / "run.json").read_text())["counter_costs"] if options is not None else []
    steps = {int(number): float(ms) for number, ms in STEP_LINE.findall(printed)}
    usual = [
        ms for number, ms in steps.items() if number > LOG_EVERY and not CAPTURED[0] - 2 < number <= CAPTURED[1] + 1
    ]
    return Run(
        step_ms=median(usual),
        captured_step_ms=steps[CAPTURED[1]],
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


def show(name: str, blocks: list[tuple[float, float]], runs: dict[str, list[Run]]) -> None:
    bare = runs["bare"]
    print(f"\n{name}: bare step {spread([run.step_ms for run in bare])} ms")
    for what, index in (("wall time", 0), ("CPU time of the rank", 1)):
        ratios = [on[index] / off[index] for on, off in zip(blocks[::2], blocks[1::2], strict=False)]
        low, high = interval(ratios)
        print(
            f"  always on, by {len(ratios)} pairs of blocks: {what} x{median(ratios):.4f} (95 %: {low:.4f}..{high:.4f})"
        )
    for form, of_form in runs.items():
        if form == "bare":
            continue
        cpu = [a.cpu_s / b.cpu_s for a, b in zip(of_form, bare, strict=True)]
        captured = [a.captured_step_ms / b.captured_step_ms for a, b in zip(of_form, bare, strict=True)]
        cores = {source: median(run.counter_cores[source] for run in of_form) for source in of_form[0].counter_cores}
        counters = "   ".join(f"{source} {100 * share:.2f} % of a core" for source, share in cores.items())
        print(
            f"  {form:<16} CPU x{spread(cpu)}   steps {CAPTURED[0]}-{CAPTURED[1] - 1} x{spread(captured)}   {counters}"
        )
    pairs = list(zip(runs["captured"], runs[OWN_PROFILER], strict=True))
    steps = [a.captured_step_ms / b.captured_step_ms for a, b in pairs]
    cpu = [a.cpu_s / b.cpu_s for a, b in pairs]
    print(f"  captured against torch.profiler: steps x{spread(steps)}, CPU x{spread(cpu)}")


def spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


def interval(values: list[float]) -> tuple[float, float]:
    """Where the median of what these are samples of lies, by resampling them."""
    resample = random.Random(0)
    medians = sorted(median(resample.choices(values, k=len(values))) for _ in range(2000))
    return medians[49], medians[-50]


if __name__ == "__main__":
    main()
