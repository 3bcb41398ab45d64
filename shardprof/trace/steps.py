"""Where a rank's steps begin and end: by ProfilerStep ranges, else recorded marks, optimizer steps, what the sequence
of kernels repeats, the whole trace. With how sure that is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardprof.engine import NOTHING, Intervals, merge
from shardprof.trace.events import Events
from shardprof.trace.importers.kineto import PROFILER_STEP, KinetoTrace
from shardprof.trace.periodicity import LEAST_CONFIDENCE, evenness, find_cycles
from shardprof.trace.schema import StepRecord
from shardprof.trace.work import work_in_order

# torch's own range, what scripts and Lightning call theirs, shardprof's, and DeepSpeed's, which is around torch's.
OPTIMIZER_STEP = re.compile(
    r"Optimizer\.step#|optimizer[._ ]step\b|^(?:# *)*optimizer(?: *#)*$|^shardprof::optimizer$"
    r"|^(?:DeepSpeedZeroOptimizer|BF16_Optimizer|FP16_(?:Unfused)?Optimizer)\w*\.step$",
    re.IGNORECASE,
)
TIMELINE = "timeline"
_RANGE_CATEGORIES = ("user_annotation", "cpu_op")  # before 2022 ranges were operators


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWindows:
    """Step numbers and their windows on the trace's clock, shape (steps, 2), and what told them.

    `confidence` is how sure it is that these are the steps: 1 for marks, 0 where none were found. `unfinished` are
    marked steps that never ended, left out where others remain: what came after the training, or a crash.
    """

    source: str
    numbers: tuple[int, ...]
    windows: Intervals
    confidence: float
    unfinished: tuple[int, ...] = ()


def find_steps(trace: KinetoTrace, records: Sequence[StepRecord]) -> StepWindows:
    """The steps of one trace; `records` are the marks that were always on, empty for traces of other tools.

    The first source with confidence, else the one with the most: uneven optimizer steps are still better than none.
    """
    marked = _named_steps(trace) or _profiler_steps(trace) or _recorded_steps(trace, records)
    if marked is not None:
        return _that_ended(marked, trace, records)
    by_optimizer = _optimizer_steps(trace)
    if by_optimizer is not None and by_optimizer.confidence >= LEAST_CONFIDENCE:
        return by_optimizer
    return _periodic_steps(trace) or by_optimizer or _whole_trace(trace)


def _that_ended(marked: StepWindows, trace: KinetoTrace, records: Sequence[StepRecord]) -> StepWindows:
    """Without the steps that nobody recorded and that lie behind the last one that was: the profiler ends a range where
    it is stopped, whether a step ended there or not."""
    if not records:
        return marked
    middle_ns = marked.windows.sum(axis=1) // 2 + trace.base_ns
    numbers = np.array(marked.numbers, dtype=np.int64)
    is_recorded = np.isin(numbers, [record.step for record in records])  # a clock may have been set meanwhile
    ended = is_recorded | (middle_ns < max(record.end_ns for record in records))
    unfinished = tuple(numbers[~ended].tolist())
    if not ended.any():
        return replace(marked, unfinished=unfinished)
    return replace(marked, numbers=tuple(numbers[ended].tolist()), windows=marked.windows[ended], unfinished=unfinished)


def _named_steps(trace: KinetoTrace) -> StepWindows | None:
    if not trace.marked_steps:
        return None
    windows = np.array([(step.begin_ns, step.end_ns) for step in trace.marked_steps], dtype=np.int64)
    numbers = tuple(step.number for step in trace.marked_steps)
    return StepWindows(source=TIMELINE, numbers=numbers, windows=windows, confidence=1.0)


def _profiler_steps(trace: KinetoTrace) -> StepWindows | None:
    events = trace.events
    marks = events.named(PROFILER_STEP.match) & ~events.in_categories("gpu_user_annotation")
    rows = np.flatnonzero(marks & (events.thread == trace.main_thread))
    if not len(rows):
        return None
    rows = rows[np.argsort(events.begin_ns[rows], kind="stable")]
    matches = [PROFILER_STEP.match(events.name_of(row)) for row in rows.tolist()]
    numbers = tuple(int(match.group(1)) for match in matches if match)
    return StepWindows(source="ProfilerStep", numbers=numbers, windows=events.intervals(rows), confidence=1.0)


def _recorded_steps(trace: KinetoTrace, records: Sequence[StepRecord]) -> StepWindows | None:
    if not len(trace.events):
        return None
    first, last = int(trace.events.begin_ns.min()), int(trace.events.end_ns.max())
    inside = [r for r in records if first <= r.begin_ns - trace.base_ns and r.end_ns - trace.base_ns <= last]
    if not inside:
        return None
    windows = np.array([(r.begin_ns - trace.base_ns, r.end_ns - trace.base_ns) for r in inside], dtype=np.int64)
    numbers = tuple(r.step for r in inside)
    return StepWindows(source="recorded marks", numbers=numbers, windows=windows, confidence=1.0)


def _optimizer_steps(trace: KinetoTrace) -> StepWindows | None:
    """From the end of one optimizer step to the end of the next, data loading included. An optimizer that steps others
    inside its own step is one. Confidence is how even they are, as two optimizers that step in turn are not, times
    1 - 2 ** -steps: of a single one nobody knows where it begins."""
    steps = _optimizer_ranges(trace.events)
    if not len(steps):
        return None
    ends = steps[:, 1]
    windows = np.stack((np.concatenate(([trace.events.begin_ns.min()], ends[:-1])), ends), axis=1)
    return _numbered("optimizer steps", windows, evenness(windows) * (1 - 0.5 ** len(windows)))


def _optimizer_ranges(events: Events) -> Intervals:
    """Merged, of the thread that has the most of them."""
    rows = events.named(OPTIMIZER_STEP.search) & events.in_categories(*_RANGE_CATEGORIES)
    if not rows.any():
        return NOTHING
    thread = int(np.bincount(events.thread[rows]).argmax())
    return merge(events.intervals(rows & (events.thread == thread)))


def _periodic_steps(trace: KinetoTrace) -> StepWindows | None:
    if trace.activities is None:
        return None
    events = trace.events
    cycles = find_cycles(work_in_order(events, trace.main_thread), events.names, int(events.begin_ns.min()))
    return None if cycles is None else _numbered("periodicity", cycles.windows, cycles.confidence)


def _whole_trace(trace: KinetoTrace) -> StepWindows:
    events = trace.events
    if trace.activities is None:
        return _numbered("none", NOTHING, 0.0)
    window = np.array([(events.begin_ns.min(), events.end_ns.max())], dtype=np.int64)
    return _numbered("whole trace", window, 0.0)


def _numbered(source: str, windows: Intervals, confidence: float) -> StepWindows:
    return StepWindows(source=source, numbers=tuple(range(len(windows))), windows=windows, confidence=confidence)
