"""Does a light recording stay within its bounds? A training of many short steps, watched from outside.

    python benchmarks/light_recording.py [--minutes 30] [--output FILE.json]

Every few seconds: resident memory of the recorder and of each rank, and the size of the run folder. Steps are so short
that their records outgrow the bound and old ones are thinned. Memory is compared with what it was after a fifth of the
time, when everything has been loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from measuring import machine

from shardprof.recording.beside.sampler import MOST_BYTES
from shardprof.recording.rank.recorder import MOST_STEP_BYTES
from shardprof.trace.live import live_ranks
from shardprof.trace.schema import RunFolder

EVERY_S = 5.0
RANKS = 2
TRAINING = [
    "-m", "shardprof.study.workloads.vit", "--data", "digits", "--strategy", "fsdp2-full", "--layers", "1", "--width",
    "32", "--heads", "2", "--batch-size", "2", "--threads", "1", "--log-every", "1000", "--steps", str(10**9),
]  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How things are after `at_s` seconds."""

    at_s: float
    steps: int
    recorder_bytes: int
    rank_bytes: list[int]
    disk_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    looks = watch(60 * args.minutes)
    show(looks)
    if args.output:
        content = {"machine": machine("torch"), "looks": [asdict(look) for look in looks]}
        args.output.write_text(json.dumps(content, indent=1) + "\n")


def watch(seconds: float) -> list[Look]:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", str(RANKS)]
        record = [sys.executable, "-m", "shardprof", "record", "--mode", "light", "--out", str(run.root), "--"]
        job = subprocess.Popen([*record, *torchrun, *TRAINING], stdout=subprocess.DEVNULL)
        begin = time.monotonic()
        looks = []
        while time.monotonic() - begin < seconds and job.poll() is None:
            time.sleep(EVERY_S)
            ranks = live_ranks(run)
            if len(ranks) == RANKS:
                looks.append(
                    Look(
                        at_s=time.monotonic() - begin,
                        steps=max(rank.step for rank in ranks),
                        recorder_bytes=psutil.Process(job.pid).memory_info().rss,
                        rank_bytes=[psutil.Process(rank.record.pid).memory_info().rss for rank in ranks],
                        disk_bytes=size(run.root),
                    )
                )
        job.terminate()
        job.wait(timeout=60)
    return looks


def size(folder: Path) -> int:
    """Files may be renamed or thinned meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def show(looks: list[Look]) -> None:
    early, last = looks[len(looks) // 5], looks[-1]
    bound = RANKS * MOST_STEP_BYTES + MOST_BYTES
    print(f"{last.at_s / 60:.0f} minutes, {last.steps:,} steps of {RANKS} ranks")
    most = max(look.disk_bytes for look in looks)
    print(f"  disk      {last.disk_bytes / 1e6:.1f} MB, at most {most / 1e6:.1f}; bound {bound / 1e6:.1f} MB")
    told("recorder", early.recorder_bytes, last.recorder_bytes, early.at_s)
    for rank in range(RANKS):
        told(f"rank {rank}", early.rank_bytes[rank], last.rank_bytes[rank], early.at_s)


def told(name: str, before_bytes: int, after_bytes: int, since_s: float) -> None:
    grown = f"{(after_bytes - before_bytes) / 1e6:+.1f} since minute {since_s / 60:.0f}"
    print(f"  {name:<9} {after_bytes / 1e6:.1f} MB resident, {grown}")


if __name__ == "__main__":
    main()
