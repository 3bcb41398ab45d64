"""What recording costs a training: the same job bare, with only the always-on part, and with captured steps.

    python benchmarks/recording_overhead.py [--rounds 5] [--strategies fsdp2-full zero3] [--output FILE.json]

Each round runs the three forms of the job one after the other, each time in another order, so that a machine that
grows slower or faster favours none. Figures are ratios to the bare run of the same round: wall time of a step as the
training prints it (median over the run, the first steps left out) and CPU seconds of all processes of the job. Where
the machine's noise is larger than the cost, the share that the hooks measured of themselves (`hook_ns` over the steps'
time, in run.json) tells more; it is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from measuring import machine

STEPS = 60
CAPTURED = (20, 25)
STEP_LINE = re.compile(r"^step\s+(\d+)/\d+ .* ([\d.]+) ms/step", re.MULTILINE)
LOG_EVERY = 5
FORMS = ("bare", "always on", "captured")


@dataclass(frozen=True)
class Sample:
    """One run: step time as the training prints it, CPU of the whole job, the hooks' own account of themselves."""

    step_ms: float
    captured_step_ms: float
    cpu_s: float
    hook_share: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strategies", nargs="+", default=["none", "fsdp2-full", "zero3"])
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    results = {strategy: rounds(strategy, args.rounds) for strategy in args.strategies}
    for strategy, samples in results.items():
        show(strategy, samples)
    if args.output:
        figures = {strategy: {form: [asdict(s) for s in of_form] for form, of_form in samples.items()}
                   for strategy, samples in results.items()}  # fmt: skip
        content = {"machine": machine("torch", "deepspeed"), "results": figures}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


def rounds(strategy: str, count: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {form: [] for form in FORMS}
    order = random.Random(0)
    for number in range(count + 1):
        for form in order.sample(FORMS, len(FORMS)):
            sample = run(strategy, form)
            if number:  # the first round warms the caches
                samples[form].append(sample)
            print(f"{strategy} round {number}/{count} {form}: {sample.step_ms:.1f} ms a step", file=sys.stderr)
    return samples


def run(strategy: str, form: str) -> Sample:
    ranks = 1 if strategy == "none" else 2
    job = [
        "torchrun", "--standalone", "--nproc-per-node", str(ranks), "-m", "shardprof.study.workloads.vit", "--data",
        "digits", "--strategy", strategy, "--steps", str(STEPS), "--log-every", str(LOG_EVERY), "--batch-size", "16",
        "--threads", "1",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        first, last = CAPTURED if form == "captured" else (10 * STEPS, 10 * STEPS + 1)
        record = [sys.executable, "-m", "shardprof", "record", "--out", str(out), "--steps", f"{first}:{last}", "--"]
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DS_ACCELERATOR": "cpu",
        }
        cpu_before = child_cpu_s()
        command = job if form == "bare" else record + job
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        cpu_s = child_cpu_s() - cpu_before
        share = None if form == "bare" else json.loads((out / "run.json").read_text())["always_on_share"]
    steps = {int(number): float(ms) for number, ms in STEP_LINE.findall(done.stdout)}
    usual = [
        ms for number, ms in steps.items() if number > LOG_EVERY and not CAPTURED[0] - 2 < number <= CAPTURED[1] + 1
    ]
    return Sample(step_ms=median(usual), captured_step_ms=steps[CAPTURED[1]], cpu_s=cpu_s, hook_share=share)


def child_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def show(strategy: str, samples: dict[str, list[Sample]]) -> None:
    bare = samples["bare"]
    print(f"\n{strategy}: {len(bare)} rounds, {STEPS} steps each, bare step {spread([s.step_ms for s in bare])} ms")
    for form in FORMS[1:]:
        pairs = list(zip(samples[form], bare, strict=True))
        ratios = {
            "step": [a.step_ms / b.step_ms for a, b in pairs],
            f"steps {CAPTURED[0]}-{CAPTURED[1] - 1}": [a.captured_step_ms / b.captured_step_ms for a, b in pairs],
            "CPU": [a.cpu_s / b.cpu_s for a, b in pairs],
        }
        columns = [f"{name} x{spread(values)}" for name, values in ratios.items()]
        shares = [100 * a.hook_share for a, _ in pairs if a.hook_share is not None]
        print("   ".join([f"  {form:<10}", *columns, f"hooks {spread(shares)} % of step time"]))


def spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}..{max(values):.3f})"


if __name__ == "__main__":
    main()
