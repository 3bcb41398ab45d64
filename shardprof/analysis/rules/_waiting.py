"""Calls in which host threads stand still until the GPU has come so far, and who makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from shardprof.analysis.result import Evidence
from shardprof.analysis.rules._case import Case
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s, holding
from shardprof.trace.cpu_activities import is_operator
from shardprof.trace.device_names import copy_kind
from shardprof.trace.replay.waits import synchronizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Observation):
    """The host in calls that wait. Replaying ends a step with its host, which would run ahead of a busy GPU without
    them: no more than `most_ns` of a step can be won."""

    most_ns: float


def won_ns(case: Case, seen: Sequence[Waiting]) -> float:
    """What a step would win without the waits."""
    most_ns = fmean(observation.most_ns for observation in seen)
    return min(case.cost_ns(seen, most_ns), most_ns)


def copies(view: View, matches: Callable[[str], object]) -> Int64s:
    """The copies in steps of a name that `matches` accepts."""
    return view.rows(view.events.in_categories("gpu_memcpy") & view.events.named(matches))


def synchronizations(view: View) -> Int64s:
    """Calls that return when the GPU has come so far, of the threads that launch its work. The profiler makes some of
    its own: before anything is launched, and when all is."""
    events, launches = view.events, view.activities.launches
    launching = launches[launches >= 0]
    if not len(launching):
        return launching
    first_ns, last_ns = events.begin_ns[launching].min(), events.begin_ns[launching].max()
    calls = view.rows(synchronizes(events) & (events.begin_ns > first_ns) & (events.end_ns <= last_ns))
    return calls[np.isin(events.thread[calls], events.thread[launching])]


def standing(view: View) -> Int64s:
    """Those, and the calls of copies to memory of the host that is not pinned."""
    to_host = copies(view, lambda name: copy_kind(name) == "DtoH" and "Pinned" not in name)
    return np.union1d(view.rows(view.launching(to_host)), synchronizations(view))


def after_calls(view: View, calls: Int64s, others: Int64s) -> Int64s:
    """Those of `calls` that come right after one of `others` on its thread, inside the same operator."""
    events = view.events
    rows = np.union1d(calls, others)
    rows = rows[np.lexsort((events.begin_ns[rows], events.thread[rows]))]
    operator = operators(view, rows)
    is_next = (operator[1:] == operator[:-1]) & (operator[1:] >= 0) & np.isin(rows[:-1], others)
    return np.intersect1d(rows[1:][is_next], calls)


def operators(view: View, rows: Int64s) -> Int64s:
    """The outermost operator around each event of a host thread; -1 where there is none."""
    events = view.events
    found = np.full(len(rows), -1, dtype=np.int64)
    is_candidate = events.in_categories("cpu_op") & events.named(is_operator)
    for thread in np.unique(events.thread[rows]).tolist():
        here = np.flatnonzero(events.thread[rows] == thread)
        outer = np.flatnonzero(is_candidate & (events.thread == thread))
        outer = outer[np.lexsort((-events.end_ns[outer], events.begin_ns[outer]))]
        ends_ns = np.maximum.accumulate(events.end_ns[outer])
        is_outermost = np.ones(len(outer), dtype=np.bool_)
        is_outermost[1:] = events.begin_ns[outer[1:]] >= ends_ns[:-1]
        outer = outer[is_outermost]
        position = holding(events.intervals(outer), events.begin_ns[rows[here]])
        found[here[position >= 0]] = outer[position[position >= 0]]
    return found


def callers(view: View, calls: Int64s, steps: int) -> str:
    """Who makes some calls, of so many steps, with how many each in one: "aten::item 2x, cudaDeviceSynchronize 1x"."""
    inside = operators(view, calls)
    by_operator = np.unique(inside[inside >= 0])
    counted = Counter(view.events.name_of(row) for row in [*by_operator.tolist(), *calls[inside < 0].tolist()])
    return ", ".join(f"{name} {count / steps:.3g}x" for name, count in counted.most_common(3))


def longest_idleness(view: View, calls: Int64s, message: str) -> Evidence:
    """The call after which the GPU idles for longest for lack of launched work, until it has some again."""
    idle = view.activities.late_launches
    at = holding(idle, view.events.end_ns[calls])
    length_ns = np.where(at >= 0, idle[at, 1] - view.events.end_ns[calls], 0) if len(idle) else np.zeros(len(calls))
    call = int(calls[length_ns.argmax()])
    end_ns = int(view.events.end_ns[call] + length_ns.max())
    return view.between(int(view.events.begin_ns[call]), end_ns, message)


def longest(view: View, rows: Int64s, message: str) -> Evidence:
    """The event that takes longest."""
    return view.at(int(rows[(view.events.end_ns - view.events.begin_ns)[rows].argmax()]), message)
