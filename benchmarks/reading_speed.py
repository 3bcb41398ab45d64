"""How fast a trace is read, and in how much memory: shardprof's report beside the floor and beside HTA.

    python benchmarks/reading_speed.py [--quick] [--output FILE.json]

The floor (floor.cpp, built here) inflates the file and walks over its events without learning anything. HTA
(hta_report.py) loads the trace and prints its temporal breakdown and its overlap. shardprof makes its whole report,
with no cached results. Each run is a fresh process, measured from outside, on a file in the page cache; the contestants
take turns, so that a machine that grows slower or faster favours none, and ratios are of runs in the same round.
--quick is for a first look: one round, and of the inputs only the small ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from measuring import ROOT, Sample, machine, measure
from reading_inputs import SMALL, TRACES, inflated, job
from reading_results import FileCost, ReadingCost
from reading_tables import show

ROUNDS = 5
COPIES = (1, 10, 20)
HTA_MOST_COPIES = 10  # of 20, HTA takes two minutes and five gigabytes
RANKS = (8, 32, 128)

BUILD = ROOT / "build" / "bench"
SHARDPROF = (sys.executable, "-m", "shardprof", "report")
ENVIRONMENT = {"SHARDPROF_CACHE": "0"}

Command = Sequence[str | Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if not SMALL.exists():
        sys.exit(f"the traces are not in {TRACES}: say with SHARDPROF_TRACES where they are")
    rounds, copies, ranks = (1, COPIES[:1], RANKS[:2]) if args.quick else (ROUNDS, COPIES, RANKS)
    floor = build_floor()
    cost = ReadingCost(
        files=[read_file(floor, count, rounds) for count in copies],
        ranks=read_jobs(ranks, rounds),
        answer=take_turns({"answer": [*SHARDPROF, SMALL]}, rounds)[0]["answer"],
    )
    show(cost)
    if args.output:
        origin = machine("shardprof", "numpy", "HolisticTraceAnalysis", "pandas")
        targets = [asdict(target) | {"met": target.met} for target in cost.targets()]
        content = {"machine": origin, "results": asdict(cost), "targets": targets}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


def build_floor() -> Path:
    """Compiles the floor for this machine, if its sources changed."""
    configure: Command = ["cmake", "-S", ROOT / "benchmarks", "-B", BUILD, "-G", "Ninja"]
    build: Command = ["cmake", "--build", BUILD]
    for command in (configure, build):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return BUILD / "floor"


def read_file(floor: Path, copies: int, rounds: int) -> FileCost:
    file = inflated(copies)
    commands: dict[str, Command] = {"floor": [floor, file], "shardprof": [*SHARDPROF, file, "--format", "json"]}
    if copies <= HTA_MOST_COPIES and importlib.util.find_spec("hta"):
        commands["HTA"] = [sys.executable, ROOT / "benchmarks" / "hta_report.py", file]
    samples, printed = take_turns(commands, rounds)
    check_ranks(printed["shardprof"], 1)
    return FileCost(copies=copies, floor=json.loads(printed["floor"]), samples=samples)


def read_jobs(ranks: Sequence[int], rounds: int) -> dict[int, list[Sample]]:
    commands: dict[str, Command] = {str(count): [*SHARDPROF, job(count), "--format", "json"] for count in ranks}
    samples, printed = take_turns(commands, rounds)
    for count in ranks:
        check_ranks(printed[str(count)], count)
    return {count: samples[str(count)] for count in ranks}


def take_turns(commands: Mapping[str, Command], rounds: int) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Each command once a round, in turn: its samples, and what it printed the last time."""
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    printed = {}
    for number in range(rounds + 1):
        for name, command in commands.items():
            sample, printed[name] = measure(command, ENVIRONMENT)
            if number:  # the first round fills the page cache
                samples[name].append(sample)
            print(f"round {number}/{rounds} {name}: {sample.wall_s:.3f} s", file=sys.stderr)
    return samples, printed


def check_ranks(report: str, expected: int) -> None:
    ranks = len(json.loads(report)["ranks"])
    if ranks != expected:
        sys.exit(f"the report is of {ranks} ranks, not of {expected}: nothing to compare")


if __name__ == "__main__":
    main()
