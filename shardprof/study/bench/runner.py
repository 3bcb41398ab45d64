"""Runs what is planned of a study and is not there yet, one training at a time, each in processes of its own."""

from __future__ import annotations

import fcntl
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from shardprof.analysis.result import Result
from shardprof.errors import ShardprofError
from shardprof.study.bench.disk import left_bytes, shortage
from shardprof.study.bench.failure import ending, oom_kill_count
from shardprof.study.bench.hosts import Hosts
from shardprof.study.bench.located import StudyError
from shardprof.study.bench.machine import facts_of_machine, facts_of_run
from shardprof.study.bench.nodes import run_nodes
from shardprof.study.bench.plan import Plan
from shardprof.study.bench.trial import Planned, TrialFolder, commands
from shardprof.study.metrics import measure
from shardprof.study.results import FINISHED, Measurement, Trial
from shardprof.study.store import RESULTS_FILE, Store

_LAST_TOLD = "ended_ns"
"""What a training tells of itself only when it has come to its end: see workloads/vit.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFolder:
    """Where a study keeps its results, and a folder a training."""

    root: Path

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.root / RESULTS_FILE)

    def trial(self, planned: Planned) -> TrialFolder:
        """Of one training."""
        return TrialFolder(self.root / "trials" / planned.trial_id)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Kept from other studies while it lasts. Raises ShardprofError where one runs in it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ShardprofError(f"a study runs in {self.root}", "wait for it, or use another --out") from error
            yield


def pending(plan: Plan, folder: StudyFolder, *, again: bool) -> list[Planned]:
    """What is planned and not there yet, in its order; with `again` what is there and did not finish, too."""
    there = folder.store.statuses()
    done = {trial_id for trial_id, status in there.items() if status == FINISHED or not again}
    return [planned for planned in plan.order if planned.trial_id not in done]


def obstacles(plan: Plan, planned: Sequence[Planned], folder: StudyFolder) -> tuple[StudyError, ...]:
    """What keeps these of a plan from being run here: its own obstacles, and a disk that is too small."""
    short = shortage(plan.located, folder.root, left_bytes(planned))
    return (*plan.obstacles, *([short] if short else []))


def run(plan: Plan, planned: Sequence[Planned], folder: StudyFolder, hosts: Hosts) -> Iterator[Trial]:
    """Run these, those of them that are there once again; each comes out when its results are written. Raises
    StudyError where the disk becomes full."""
    name = plan.located.file.study.name
    folder.store.plan(name, plan.order[0].fabric_bytes_per_s, [one.trial_id for one in plan.order])
    folder.store.forget({one.trial_id for one in planned} & folder.store.statuses().keys())
    return _trials(plan, planned, folder, hosts)


def _trials(plan: Plan, planned: Sequence[Planned], folder: StudyFolder, hosts: Hosts) -> Iterator[Trial]:
    for one in planned:
        if short := shortage(plan.located, folder.root, left_bytes([one])):
            raise short
        trial = replace(_run_one(one, folder.trial(one), hosts), study=plan.located.file.study.name)
        folder.store.add(trial)
        yield trial


def _run_one(planned: Planned, folder: TrialFolder, hosts: Hosts) -> Trial:
    shutil.rmtree(folder.root, ignore_errors=True)  # of an attempt that was interrupted
    folder.training.mkdir(parents=True)
    outputs = [folder.output(node) for node in range(planned.cell.nodes)]
    oom_kills, started_ns = oom_kill_count(), time.time_ns()
    timeout_s = planned.length.timeout_s
    codes, over = run_nodes(commands(planned, folder, hosts, _free_port()), outputs, timeout_s)
    seconds = (time.time_ns() - started_ns) / 1e9
    measurement = portable(measure(folder.root, planned.cell, planned.length), folder.root.parents[1])
    end = ending(
        codes, outputs, timeout_s=timeout_s if over else None, oom_kills=oom_kill_count() - oom_kills,
        is_complete=_LAST_TOLD in measurement.workload,
    )  # fmt: skip
    return Trial(
        trial_id=planned.trial_id,
        study="",
        cell_id=planned.cell_id,
        cell=planned.cell,
        knobs=msgspec.to_builtins(planned.knobs),
        length=msgspec.to_builtins(planned.length),
        repeat=planned.repeat,
        position=planned.position,
        status=end.status,
        reason=end.reason,
        started_ns=started_ns,
        seconds=seconds,
        fabric_bytes_per_s=planned.fabric_bytes_per_s,
        environment=facts_of_machine() | facts_of_run(folder),
        measurement=measurement,
    )


def portable(measurement: Measurement, study: Path) -> Measurement:
    """Without the folders of this machine: results go elsewhere. Paths in the report begin in the study's folder."""
    text = msgspec.json.encode(measurement.report).decode()
    for folder in (study, Path(sys.executable).parent):
        text = text.replace(f"{folder}/", "")
    return replace(measurement, report=msgspec.json.decode(text, type=Result | None))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def seconds_left(planned: Sequence[Planned], done: Sequence[Trial]) -> float | None:
    """About how long what is left takes: what its cells took, or else all cells; None before anything is done."""
    took: dict[str, list[float]] = {}
    for trial in done:
        took.setdefault(trial.cell_id, []).append(trial.seconds)
    everything = [trial.seconds for trial in done if trial.status == FINISHED] or [trial.seconds for trial in done]
    if not everything:
        return None
    usual = sum(everything) / len(everything)
    return sum(sum(took[p.cell_id]) / len(took[p.cell_id]) if p.cell_id in took else usual for p in planned)
