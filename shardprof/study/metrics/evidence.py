"""All that a training left, read once: its report, its records, its counters, what it told of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from shardprof.analysis.cache import report_of
from shardprof.analysis.comparing.measured import full_steps
from shardprof.analysis.result import Result, Step
from shardprof.errors import ShardprofError
from shardprof.study.bench.cells import Cell
from shardprof.study.bench.study_file import Length
from shardprof.study.metrics.device_text import DeviceWork, device_work
from shardprof.study.metrics.learning import Learning, read_learning
from shardprof.study.results import Accuracy, StepTime
from shardprof.trace.counters import Counters, read_counters
from shardprof.trace.run import RankTraces, Run, load
from shardprof.trace.schema import COUNTERS_FILE, StepRecord, gpu_of
from shardprof.trace.undisturbed import undisturbed


class MissingError(Exception):
    """Something that cannot be had; its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU of the job: its node, what counters call it there, and its name."""

    host: str
    subject: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What figures are computed from. `run` and `report` are None where they cannot be read, `unread` says why."""

    cell: Cell
    length: Length
    learning: Learning
    run: Run | None = None
    report: Result | None = None
    unread: str = ""
    ranks: tuple[RankTraces, ...] = ()
    steps: tuple[StepTime, ...] = ()

    def fact(self, name: str) -> float:
        """A number that the training told of itself. Raises MissingError."""
        told = self.learning.workload.get(name)
        if not isinstance(told, int | float) or isinstance(told, bool) or not math.isfinite(told):
            raise MissingError(f"the training did not tell {name}")
        return told

    @cached_property
    def on_gpu(self) -> bool:
        """Did the ranks compute on GPUs? Raises MissingError where nothing tells."""
        recorded = [rank.record.device for rank in self.ranks if rank.record]
        traced = [rank.device for rank in self.report.ranks if rank.device] if self.report else []
        if not (recorded or traced):
            raise MissingError(self.unread or "what the ranks computed on is not told")
        return any(device.startswith("cuda") for device in (*recorded, *traced))

    @cached_property
    def counted_ms(self) -> list[float]:
        """The times of the counted steps. Raises MissingError where there are none."""
        times = [step.wall_ns / 1e6 for step in self.steps if step.counts]
        if not times:
            none_recorded = self.unread or "no step was recorded"
            raise MissingError("no step was undisturbed after the warm-up" if self.steps else none_recorded)
        return times

    @cached_property
    def counted(self) -> list[list[StepRecord]]:
        """The records of the counted steps, by rank. Raises MissingError where there are none."""
        _ = self.counted_ms
        numbers = {step.step for step in self.steps if step.counts}
        return [[record for record in rank.steps if record.step in numbers] for rank in self.ranks]

    @cached_property
    def captured(self) -> list[Step]:
        """The captured steps that hold work, of all ranks. Raises MissingError where there are none."""
        steps = [step for ranks in full_steps(self.known_report) for step in ranks]
        if not steps:
            raise MissingError("no step was captured")
        if self.known_report.summary is not None and self.known_report.summary.only_cpu_side:
            raise MissingError("the traces hold no GPU activities")
        return steps

    @property
    def known_report(self) -> Result:
        """The report. Raises MissingError where there is none."""
        if self.report is None:
            raise MissingError(self.unread)
        return self.report

    @cached_property
    def counters(self) -> Mapping[str, Counters]:
        """What was sampled, by node. Raises MissingError where there is no run, or nobody sampled."""
        if self.run is None or not self.run.hosts:
            raise MissingError(self.unread or "the counters of no node were recorded")
        try:
            return {host.name: read_counters(host.folder / COUNTERS_FILE) for host in self.run.hosts}
        except Exception as error:
            raise MissingError(_reason(error)) from error

    @cached_property
    def gpus(self) -> Mapping[Gpu, RankTraces]:
        """The job's GPUs, each with a rank that computes on it; empty where NVML told of none."""
        hosts = {host.name: host.record for host in self.run.hosts} if self.run else {}
        found: dict[Gpu, RankTraces] = {}
        for rank in self.ranks:
            host = hosts.get(rank.host or "")
            subject = gpu_of(host, rank.record) if host and rank.record else None
            names = [device.name for device in host.devices if device.subject == subject] if host else []
            if subject and names:
                found.setdefault(Gpu(host=str(rank.host), subject=subject, name=names[0]), rank)
        return found

    @cached_property
    def device_work(self) -> DeviceWork:
        """What GPUs did in the captured steps of the first rank that has some. Raises MissingError."""
        ranks = {rank.rank: rank for rank in self.known_report.ranks if any(not step.empty for step in rank.steps)}
        source = next((source for source in self.run.sources if source.rank in ranks), None) if self.run else None
        if source is None or source.rank is None:
            raise MissingError("no step was captured")
        steps = [step for step in ranks[source.rank].steps if not step.empty]
        try:
            return device_work(source.trace_files, [(step.begin_ns, step.begin_ns + step.wall_ns) for step in steps])
        except Exception as error:
            raise MissingError(_reason(error)) from error


def evidence_in(folder: Path, cell: Cell, length: Length) -> Evidence:
    """What the folder of a trial holds; where parts are missing, the rest.

    What a job that crashed left may be anything: whatever fails in reading it is a reason why figures are missing.
    """
    learning = read_learning(folder / "training", cell.ranks)
    evidence = Evidence(cell=cell, length=length, learning=learning)
    try:
        run = load([folder / "run"])
        ranks = tuple(run.recorded())
    except Exception as error:
        return replace(evidence, unread=_reason(error))
    steps = step_times(ranks, learning.accuracies, length.warm_up)
    evidence = replace(evidence, run=run, ranks=ranks, steps=steps)
    try:
        return replace(evidence, report=report_of(run))
    except Exception as error:
        return replace(evidence, unread=_reason(error))


def step_times(ranks: Sequence[RankTraces], accuracies: Sequence[Accuracy], warm_up: int) -> tuple[StepTime, ...]:
    """Every recorded step of the job. It counts where it is undisturbed on all ranks, and no evaluation was in it."""
    by_number: dict[int, list[int]] = {}
    disturbed: set[int] = set()
    for rank in ranks:
        for record in rank.steps:
            by_number.setdefault(record.step, []).append(record.end_ns - record.begin_ns - record.hook_ns)
        disturbed |= {record.step for record in rank.steps} - {record.step for record in undisturbed(rank.steps)}
    if ranks:
        disturbed |= _evaluated(ranks[0].steps, accuracies)
    return tuple(
        StepTime(step=step, wall_ns=round(median(times)), counts=step >= warm_up and step not in disturbed)
        for step, times in sorted(by_number.items())
    )


def _evaluated(records: Sequence[StepRecord], accuracies: Sequence[Accuracy]) -> set[int]:
    """The steps in which an evaluation ended; it began there too, for a step's record ends with its update."""
    ends_ns = [accuracy.at_ns for accuracy in accuracies]
    return {record.step for record in records if any(record.begin_ns <= at < record.end_ns for at in ends_ns)}


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, ShardprofError) else f"the run is damaged: {error!r}"
