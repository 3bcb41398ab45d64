"""What ran on the GPU: kernels, copies and collectives, from Kineto's device activities."""

from __future__ import annotations

import numpy as np

from shardprof.engine import ABSENT, NOTHING, Int64s, Intervals, merge
from shardprof.trace.activities import Activities
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.events import Events
from shardprof.trace.gpu_collectives import comm_rows, gpu_collectives
from shardprof.trace.groups import GroupTable
from shardprof.trace.launches import DEVICE_CATEGORIES, launches_of


def gpu_activities(events: Events, groups: GroupTable, data_loading: Intervals) -> Activities:
    """The activities of a trace that has device events."""
    communicating = comm_rows(events)
    is_compute = events.in_categories("kernel")
    is_compute[communicating] = False
    device_rows = np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES))
    launches = launches_of(events, device_rows)
    of_collectives = launches[np.searchsorted(device_rows, communicating)]
    launched_ns = _launched_ns(events, communicating, of_collectives, launches)
    collectives = gpu_collectives(events, communicating, of_collectives, launched_ns, groups)
    present = [COMM_KINDS[kind] for kind in np.unique(collectives.kind).tolist()]
    return Activities(
        device="cuda",
        compute=merge(events.intervals(is_compute)),
        work_begin_ns=np.sort(events.begin_ns[is_compute]),
        comm={kind: collectives.intervals(kind) for kind in present},
        memcpy=merge(events.intervals(events.in_categories("gpu_memcpy"))),
        memset=merge(events.intervals(events.in_categories("gpu_memset"))),
        data_loading=data_loading,
        late_launches=_late_launches(events, device_rows, launches),
        launches=launches,
        collectives=collectives,
    )


def _launched_ns(events: Events, rows: Int64s, launches: Int64s, all_launches: Int64s) -> Int64s:
    """When some device rows were launched. What was launched before the trace began was launched in none of its steps;
    a trace without any launches (it was recorded so) has to count by when things ran."""
    any_known = bool((all_launches >= 0).any())
    otherwise = int(events.begin_ns.min()) - 1 if any_known else events.begin_ns[rows]
    return np.where(launches >= 0, events.begin_ns[launches], otherwise)


def _late_launches(events: Events, device_rows: Int64s, launches: Int64s) -> Intervals:
    """Idleness whose next activity was launched after it began. What precedes the first activity counts from the
    trace's first event on."""
    busy = merge(events.intervals(device_rows))
    if not len(busy):
        return NOTHING
    launched_ns = np.where(launches >= 0, events.begin_ns[launches], ABSENT)
    trace_begin_ns = min(int(events.begin_ns.min()), int(busy[0, 0]))
    gap_begin = np.concatenate(([trace_begin_ns], busy[:-1, 1]))
    gap_end = busy[:, 0]
    begin_ns = events.begin_ns[device_rows]
    order = np.argsort(begin_ns, kind="stable")
    next_activity = order[np.searchsorted(begin_ns[order], gap_end)]
    late = launched_ns[next_activity] > gap_begin
    return merge(np.stack((gap_begin[late], gap_end[late]), axis=1))
