"""Where host threads meet what runs off them: calls that launch it, and how long threads stood still for it."""

from __future__ import annotations

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.activities import Activities
from shardprof.trace.cpu_activities import is_operator
from shardprof.trace.events import Events, Mask
from shardprof.trace.replay.pieces import NONE, Pieces, pieces, together
from shardprof.trace.replay.waits import awaited_by_calls, launching, synchronizes
from shardprof.trace.replay.work import Work

_RETURNS_NS = 100_000
"""What a call takes at most to return once it need not wait; why it stood still for longer is not known."""

_WAKES_NS = 2_000_000
"""How soon after a transfer the thread that waited for it goes on, where cores are shared."""


def device_calls(events: Events, activities: Activities, work: Work, main_instants: Int64s) -> Pieces:
    """The calls of a step that launch work on a device or wait for it."""
    in_step = (events.begin_ns < main_instants[-1]) & (events.end_ns > main_instants[0])
    rows = np.flatnonzero((synchronizes(events) | launching(events, activities)) & in_step)
    call_begin_ns, call_end_ns = events.begin_ns[rows], events.end_ns[rows]
    awaited = awaited_by_calls(events, activities, rows, work)
    awaited_end_ns = np.where(awaited != NONE, work.end_ns[awaited], call_begin_ns) if len(work) else call_begin_ns
    stands_still = synchronizes(events)[rows] | (awaited != NONE)
    resumed_ns = np.maximum(awaited_end_ns, call_end_ns - _RETURNS_NS)
    launched_ns = call_begin_ns.copy()
    is_later = (work.call != NONE) & (work.launched_ns > events.begin_ns[work.call])
    launched_ns[np.searchsorted(rows, work.call[is_later])] = work.launched_ns[is_later]
    resumed_ns = np.where(stands_still, resumed_ns, launched_ns)
    own_work = launched_ns > call_begin_ns
    thread = events.thread[rows].astype(np.int64)
    return together(
        [
            pieces(*(column[own_work] for column in (rows, thread, call_begin_ns, launched_ns, call_begin_ns)), NONE),
            pieces(rows, thread, launched_ns, call_end_ns, resumed_ns, awaited),
        ]
    )


def transfer_calls(events: Events, work: Work, thread: int, main_instants: Int64s) -> Pieces:
    """Where the main thread launches transfers, and where it stands still for them: between two instants that are not
    one operator's, when it goes on soon after one has ended."""
    launched_ns = np.unique(work.launched_ns)
    at_launch = pieces(NONE, thread, launched_ns, launched_ns, launched_ns, NONE)
    order = np.argsort(work.end_ns, kind="stable")
    end_ns = work.end_ns[order]
    gap = np.searchsorted(main_instants, end_ns)
    is_inside = (gap > 0) & (gap < len(main_instants))
    order, end_ns, gap = order[is_inside], end_ns[is_inside], gap[is_inside]
    is_last = np.append(gap[1:] != gap[:-1], True)[: len(gap)]
    goes_on = gap[is_last & (main_instants[gap] - end_ns <= _WAKES_NS)]
    is_awaited = np.isin(gap, goes_on) & ~_is_one_operator(events, thread, main_instants)[gap - 1]
    order, end_ns, gap = order[is_awaited], end_ns[is_awaited], gap[is_awaited]
    wait_begin_ns = np.maximum(main_instants[gap - 1], np.concatenate(([0], end_ns))[: len(end_ns)])
    return together([at_launch, pieces(NONE, thread, wait_begin_ns, end_ns, end_ns, order)])


def _is_one_operator(events: Events, thread: int, main_instants: Int64s) -> Mask:
    """For each instant but the last whether an operator lasts from it to the next one."""
    rows = np.flatnonzero(events.in_categories("cpu_op") & (events.thread == thread) & events.named(is_operator))
    first = np.searchsorted(main_instants, events.begin_ns[rows])
    is_leaf = np.searchsorted(main_instants, events.end_ns[rows]) == first + 1
    found = np.zeros(len(main_instants), dtype=np.bool_)
    found[np.minimum(first[is_leaf], len(found) - 1)] = True
    return found
