"""Where a rank's steps begin and end: by ProfilerStep ranges, else recorded marks, optimizer steps, the whole trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.engine import NOTHING, Intervals, merge
from shardprof.trace.importers.kineto import PROFILER_STEP, KinetoTrace
from shardprof.trace.schema import StepRecord

_OPTIMIZER_STEP = "Optimizer.step#"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWindows:
    """Step numbers and their windows on the trace's clock, shape (steps, 2), and what told them."""

    source: str
    numbers: tuple[int, ...]
    windows: Intervals


def find_steps(trace: KinetoTrace, records: Sequence[StepRecord]) -> StepWindows:
    """The steps of one trace; `records` are the marks that were always on, empty for traces of other tools."""
    candidates = (_profiler_steps(trace), _recorded_steps(trace, records), _optimizer_steps(trace))
    return next((found for found in candidates if found is not None), _whole_trace(trace))


def _profiler_steps(trace: KinetoTrace) -> StepWindows | None:
    events = trace.events
    marks = events.named(PROFILER_STEP.match) & ~events.in_categories("gpu_user_annotation")
    rows = np.flatnonzero(marks & (events.thread == trace.main_thread))
    if not len(rows):
        return None
    rows = rows[np.argsort(events.begin_ns[rows], kind="stable")]
    matches = [PROFILER_STEP.match(events.name_of(row)) for row in rows.tolist()]
    numbers = tuple(int(match.group(1)) for match in matches if match)
    return StepWindows(source="ProfilerStep", numbers=numbers, windows=events.intervals(rows))


def _recorded_steps(trace: KinetoTrace, records: Sequence[StepRecord]) -> StepWindows | None:
    if not len(trace.events):
        return None
    first, last = int(trace.events.begin_ns.min()), int(trace.events.end_ns.max())
    inside = [r for r in records if first <= r.begin_ns - trace.base_ns and r.end_ns - trace.base_ns <= last]
    if not inside:
        return None
    windows = np.array([(r.begin_ns - trace.base_ns, r.end_ns - trace.base_ns) for r in inside], dtype=np.int64)
    return StepWindows(source="recorded marks", numbers=tuple(r.step for r in inside), windows=windows)


def _optimizer_steps(trace: KinetoTrace) -> StepWindows | None:
    """From the end of one optimizer step to the end of the next, data loading included. An optimizer that steps others
    inside its own step is one."""
    events = trace.events
    rows = events.named(lambda name: name.startswith(_OPTIMIZER_STEP)) & (events.thread == trace.main_thread)
    if not rows.any():
        return None
    ends = merge(events.intervals(rows))[:, 1]
    begins = np.concatenate(([events.begin_ns.min()], ends[:-1]))
    windows = np.stack((begins, ends), axis=1)
    return StepWindows(source="optimizer steps", numbers=tuple(range(len(ends))), windows=windows)


def _whole_trace(trace: KinetoTrace) -> StepWindows:
    events = trace.events
    if trace.activities is None:
        return StepWindows(source="none", numbers=(), windows=NOTHING)
    window = np.array([(events.begin_ns.min(), events.end_ns.max())], dtype=np.int64)
    return StepWindows(source="whole trace", numbers=(0,), windows=window)
