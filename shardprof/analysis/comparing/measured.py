"""A run as it is compared with others: its report, and what its records tell beside it. Or a report that was saved."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from shardprof.analysis.cache import report_of
from shardprof.analysis.comparing.work import Work, work_of
from shardprof.analysis.result import Result, Step
from shardprof.errors import ShardprofError
from shardprof.trace.reading import USUAL_READING, Reading
from shardprof.trace.run import RankTraces, Run, load
from shardprof.trace.schema import CapturePlan

PEAKS = ("peak_allocated_bytes", "peak_active_bytes", "peak_reserved_bytes")
"""What torch's allocator had at most, by its name in the records of steps."""
USED = ("gpu_memory_used_bytes", "rss_bytes")
"""What NVML and the operating system saw in use, by its name in the counters of steps."""

_SAVED = re.compile(rb'\s*\{\s*"schema"\s*:\s*"shardprof\.report/')
_HEAD_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run. `memory_bytes` is the most of any rank, by what was measured; `recorded_ns` (a time a step, the median
    of its ranks), `environment` and `plan` are of recorded runs, `work` where it was asked for and there are traces."""

    result: Result
    memory_bytes: Mapping[str, int]
    recorded_ns: Sequence[float] = ()
    environment: Mapping[str, str] | None = None
    plan: CapturePlan | None = None
    work: Work | None = None


def full_steps(result: Result) -> list[list[Step]]:
    """The steps that hold work: by number, the ranks' of one number together."""
    by_number: dict[int, list[Step]] = {}
    for rank in result.ranks:
        for step in rank.steps:
            if not step.empty:
                by_number.setdefault(step.step, []).append(step)
    return [by_number[number] for number in sorted(by_number)]


def measured(
    paths: Sequence[str | os.PathLike[str]], reading: Reading = USUAL_READING, *, with_work: bool = False
) -> Measured:
    """The run in `paths` (none: the newest; several: the nodes of one), or the saved report that is the only path.

    Raises ShardprofError where there is nothing to read.
    """
    if len(paths) == 1 and (saved := _saved_report(paths[0])) is not None:
        return Measured(result=saved, memory_bytes=_used_bytes(saved))
    run = load(paths, reading)
    return measured_run(run, report_of(run), with_work=with_work)


def measured_run(run: Run, result: Result, *, with_work: bool = False) -> Measured:
    """A run that is loaded, by its report."""
    recorded = list(run.recorded())
    return Measured(
        result=result,
        memory_bytes=_peak_bytes(recorded) | _used_bytes(result),
        recorded_ns=_recorded_ns(recorded),
        environment=run.record.environment if run.record else None,
        plan=run.record.plan if run.record else None,
        work=work_of(run, result) if with_work else None,
    )


def _saved_report(path: str | os.PathLike[str]) -> Result | None:
    """What `shardprof report --format json` wrote into a file; None for any other file or folder."""
    file = Path(path)
    if not file.is_file():
        return None
    with file.open("rb") as content:
        if not _SAVED.match(content.read(_HEAD_BYTES)):
            return None
    import msgspec  # only where there is something to decode

    try:
        return msgspec.json.decode(file.read_bytes(), type=Result)
    except (ValueError, RecursionError) as error:
        raise ShardprofError(f"{file} is a damaged report: {error}", "write it anew, or name the run") from error


def _recorded_ns(ranks: Sequence[RankTraces]) -> list[float]:
    """How long each step took, less what recording took of it; but a rank's first step and those that were captured."""
    by_number: dict[int, list[int]] = {}
    for step in (step for rank in ranks for step in rank.steps[1:] if not step.captured):
        by_number.setdefault(step.step, []).append(step.end_ns - step.begin_ns - step.hook_ns)
    return [median(times_ns) for times_ns in by_number.values()]


def _peak_bytes(ranks: Sequence[RankTraces]) -> dict[str, int]:
    most: dict[str, int] = {}
    for rank in ranks:
        for step in rank.steps:
            for name in PEAKS:
                if name in step.cuda_memory:
                    most[name] = max(most.get(name, 0), step.cuda_memory[name])
    return most


def _used_bytes(result: Result) -> dict[str, int]:
    most: dict[str, int] = {}
    for step in (step for steps in full_steps(result) for step in steps):
        for name in USED:
            if name in step.counters:
                most[name] = max(most.get(name, 0), round(step.counters[name]))
    return most
