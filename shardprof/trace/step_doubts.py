"""What about a trace's steps is doubtful: cut off at the ends, or not fitting the device's events."""

from __future__ import annotations

import numpy as np

from shardprof.engine import Int64s, Intervals, covered_ns
from shardprof.trace.activities import Activities
from shardprof.trace.device_doubts import milliseconds, unserved_launches
from shardprof.trace.events import Events
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.quality import Quality
from shardprof.trace.steps import StepWindows
from shardprof.trace.work import work_in_order

_MOST = 0.9
"""A step with less than this share of the usual work, or of its own, is not all there."""


def step_doubts(trace: KinetoTrace, found: StepWindows) -> list[Quality]:
    """What about the steps of one trace is doubtful; nothing where none were found."""
    if trace.activities is None or found.source in ("none", "whole trace"):
        return []
    doubts = _cut_steps(trace, found) + _never_ended(found)
    if trace.activities.device != "cpu":
        doubts += _unfinished_steps(trace.events, trace.activities, found)
        doubts += _longer_than_steps(trace.events, found)
        doubts += _without_device_events(trace, trace.activities.busy(), found)
    return doubts


def _never_ended(found: StepWindows) -> list[Quality]:
    if not found.unfinished:
        return []
    alone = set(found.numbers) <= set(found.unfinished)
    what = "what came after the last step that ended was captured too" if not alone else "no captured step ended"
    treated = "" if alone else ", and is in no step"
    return [Quality(code="unfinished_steps", message=f"{what}{treated}", count=len(found.unfinished))]


def _cut_steps(trace: KinetoTrace, found: StepWindows) -> list[Quality]:
    """Steps that were found by where they end may be cut off at the ends of the trace; marked ones never are."""
    if found.source not in ("optimizer steps", "periodicity"):
        return []
    given_ns = work_in_order(trace.events, trace.main_thread).begin_ns
    before, after = int((given_ns < found.windows[0, 0]).sum()), int((given_ns >= found.windows[-1, 1]).sum())
    work = _within(given_ns, found.windows)
    usual = float(np.median(work))
    left_out = int(before > (1 - _MOST) * usual) + int(after > (1 - _MOST) * usual)
    doubts = []
    if left_out:
        message = "incomplete steps at the ends of the trace, which are left out"
        doubts.append(Quality(code="clipped_windows", message=message, count=left_out))
    if work[0] < _MOST * usual:
        share = f"{100 * work[0] / usual:.0f} % of the usual work"
        message = f"the first step of {trace.path.name} begins with the trace and holds {share}"
        doubts.append(Quality(code="clipped_windows", message=message, count=1))
    return doubts


def _unfinished_steps(events: Events, activities: Activities, found: StepWindows) -> list[Quality]:
    """The first or last step, if the kernels that it launched ran when the device was not recorded."""
    rows, unserved = unserved_launches(events, activities)
    if not unserved.any():
        return []
    launches = _within(events.begin_ns[rows], found.windows)
    lost = _within(events.begin_ns[rows[unserved]], found.windows)
    cut = [step for step in sorted({0, len(launches) - 1}) if lost[step] > (1 - _MOST) * launches[step]]
    message = "steps at the ends of the trace whose kernels it lost in part: their compute is too short"
    return [Quality(code="clipped_windows", message=message, count=len(cut))] if cut else []


def _longer_than_steps(events: Events, found: StepWindows) -> list[Quality]:
    rows = np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES))
    lasting_ns = events.end_ns[rows] - events.begin_ns[rows]
    longest_step_ns = int((found.windows[:, 1] - found.windows[:, 0]).max())
    count = int((lasting_ns > longest_step_ns).sum())
    if not count:
        return []
    message = (
        f"GPU activities that last longer than the longest step ({milliseconds(longest_step_ns)}), up to"
        f" {milliseconds(int(lasting_ns.max()))}: their times, or the steps', are wrong"
    )
    return [Quality(code="kernels_longer_than_step", message=message, count=count)]


def _without_device_events(trace: KinetoTrace, busy: Intervals, found: StepWindows) -> list[Quality]:
    """Steps in which the CPU worked as usual and nothing ran on the GPU. The empty step at a loader's end is none."""
    silent = covered_ns(busy, found.windows) == 0
    if not silent.any():
        return []
    events = trace.events
    operators = _within(np.sort(events.begin_ns[events.in_categories("cpu_op")]), found.windows)
    silent &= (operators >= np.median(operators) / 2) & (operators > 0)
    if not silent.any():
        return []
    numbers = [number for number, is_silent in zip(found.numbers, silent.tolist(), strict=True) if is_silent]
    message = (
        f"of {len(silent)} steps of {trace.path.name}, the device events of some are missing (the first is step"
        f" {numbers[0]}): what they show as idle time is unknown"
    )
    return [Quality(code="steps_without_device_events", message=message, count=len(numbers))]


def _within(times_ns: Int64s, windows: Intervals) -> Int64s:
    """How many of the sorted times are in each window."""
    return np.searchsorted(times_ns, windows[:, 1]) - np.searchsorted(times_ns, windows[:, 0])
