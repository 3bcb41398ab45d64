"""What about a trace's device events cannot be true: times that were lost, work that a stream does not do so, launches
that nothing came of."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from shardprof.engine import ABSENT, Int64s, length_ns
from shardprof.trace.activities import Activities
from shardprof.trace.events import Events, Mask
from shardprof.trace.launches import DEVICE_CATEGORIES, LAUNCH_CATEGORIES
from shardprof.trace.quality import Quality

_FAR_NS = 3600 * 10**9  # a clock begins with the epoch, a quarter of a year, or the trace: no trace lasts an hour
_GRANULARITY_NS = 1000  # of the clocks of traces before 2024
_MATTERS = 0.01
"""A share of a total below which an error changes no figure that anyone reads."""

# Calls that start kernels. Copies and memory sets of nothing have no device event either, so they tell nothing.
_LAUNCH = re.compile(r"(?:cuda|cu|hip)(?:Ext)?(?:Module)?Launch(?!HostFunc)|(?:cuda|cu|hip)GraphLaunch")
_GRAPH_LAUNCH = re.compile(r"(?:cuda|cu|hip)GraphLaunch")
_CAPTURE_BEGIN = re.compile(r"(?:cuda|cu|hip)StreamBeginCapture")
_CAPTURE_END = re.compile(r"(?:cuda|cu|hip)StreamEndCapture")


def without_lost_timestamps(events: Events, name: str) -> tuple[Events, list[Quality]]:
    """The events whose time is known, and the doubt if that are not all; `name` is the file's."""
    lost = lost_timestamps(events)
    count = int(lost.sum())
    if not count:
        return events, []
    message = f"events of {name} whose time was lost (it is 0): they are left out, so that work is missing"
    return _only(events, ~lost), [Quality(code="zero_timestamps", message=message, count=count)]


def lost_timestamps(events: Events) -> Mask:
    """Which rows begin at 0 because nobody filled in their time: all others begin much later."""
    at_zero: Mask = events.begin_ns == 0
    if at_zero.any() and not at_zero.all() and events.begin_ns[~at_zero].min() > _FAR_NS:
        return at_zero
    return np.zeros_like(at_zero)


def _only(events: Events, kept: Mask) -> Events:
    new_row = np.cumsum(kept) - 1
    columns = ("begin_ns", "end_ns", "name", "category", "thread", "correlation", "external_id", "stream", "shape")
    return replace(
        events,
        detail_row=new_row[events.detail_row[kept[events.detail_row]]].astype(np.uint32),
        detail=events.detail[kept[events.detail_row]],
        detail_sequence=events.detail_sequence[kept[events.detail_row]],
        **{column: getattr(events, column)[kept] for column in columns},
    )


def device_doubts(events: Events, activities: Activities) -> list[Quality]:
    """What about the device events of one trace cannot be true; nothing for a trace without any."""
    if activities.device == "cpu":
        return []
    return [*_stream_overlaps(events, activities), *_launches_without_kernels(events, activities)]


def unserved_launches(events: Events, activities: Activities) -> tuple[Int64s, Mask]:
    """The rows of all calls that launch kernels and which of them no device event answers, in order of time if any.

    A call inside another is one launch with it; while a graph is captured, launches start nothing.
    """
    rows = np.flatnonzero(events.in_categories(*LAUNCH_CATEGORIES) & events.named(_LAUNCH.match))
    has_activity = np.zeros(len(events), dtype=np.bool_)
    has_activity[activities.launches[activities.launches >= 0]] = True
    answered = has_activity[rows]
    if answered.all():
        return rows, ~answered
    order = np.lexsort((events.begin_ns[rows], events.thread[rows]))
    rows, answered = rows[order], answered[order]
    begin_ns, end_ns, thread = events.begin_ns[rows], events.end_ns[rows], events.thread[rows]
    nested = (thread[1:] == thread[:-1]) & (begin_ns[1:] < end_ns[:-1])
    served = answered.copy()
    served[1:] |= nested & answered[:-1]
    served[:-1] |= nested & answered[1:]
    in_time = np.argsort(begin_ns, kind="stable")
    return rows[in_time], ~(served | _while_capturing(events, begin_ns))[in_time]


def milliseconds(time_ns: int) -> str:
    """A time for a sentence."""
    return f"{time_ns / 1e6:,.3g} ms" if time_ns < 10**8 else f"{time_ns / 1e6:,.0f} ms"


def _while_capturing(events: Events, times_ns: Int64s) -> Mask:
    begun, ended = (
        np.searchsorted(np.sort(events.begin_ns[events.named(name.match)]), times_ns, side="right")
        for name in (_CAPTURE_BEGIN, _CAPTURE_END)
    )
    capturing: Mask = begun > ended
    return capturing


def _stream_overlaps(events: Events, activities: Activities) -> list[Quality]:
    """Work that ends before earlier work of its stream does. To begin before its end is no fault: programmatic
    dependent launches do. Kernels of one graph launch may be of parallel branches."""
    rows = _device_rows(events)
    rows = rows[np.lexsort((-events.end_ns[rows], events.begin_ns[rows], events.thread[rows]))]
    if len(rows) < 2:
        return []
    last = _latest_end_before(events, rows)
    inside = (last >= 0) & (events.end_ns[rows] < events.end_ns[rows[last]] - _GRANULARITY_NS)
    correlation = events.correlation[rows]
    inside &= (correlation != correlation[last]) | (correlation == ABSENT)
    too_long, first = np.unique(last[inside], return_index=True)
    overrun_ns = events.end_ns[rows[too_long]] - events.begin_ns[rows[inside][first]]
    if overrun_ns.sum() <= _MATTERS * length_ns(activities.busy()):
        return []
    worst = int(rows[too_long[overrun_ns.argmax()]])
    message = (
        f"GPU activities that last into later ones of their stream: busy time is up to {milliseconds(overrun_ns.sum())}"
        f" too long; the worst, on stream {events.threads[events.thread[worst]].split('/')[-1]}, by"
        f" {milliseconds(overrun_ns.max())}"
    )
    return [Quality(code="stream_overlaps", message=message, count=len(too_long))]


def _latest_end_before(events: Events, rows: Int64s) -> Int64s:
    """By position in `rows`, sorted by stream: where the row before it on its stream is that ends last; -1 for none."""
    by_end = np.argsort(events.end_ns[rows], kind="stable")
    rank = np.empty(len(rows), dtype=np.int64)
    rank[by_end] = np.arange(len(rows))
    stream = np.cumsum(np.concatenate(([False], events.thread[rows[1:]] != events.thread[rows[:-1]])))
    latest = np.maximum.accumulate(stream * len(rows) + rank)[:-1] % len(rows)
    return np.concatenate(([-1], np.where(stream[1:] == stream[:-1], by_end[latest], -1)))


def _launches_without_kernels(events: Events, activities: Activities) -> list[Quality]:
    """But for the last ones, whose kernels ran after the trace ended."""
    rows, unserved = unserved_launches(events, activities)
    served = np.flatnonzero(~unserved)
    if not unserved.any() or not len(served):
        return []
    lost = rows[: served[-1]][unserved[: served[-1]]]
    graphs = int(events.named(_GRAPH_LAUNCH.match)[lost].sum())
    if not graphs and len(lost) <= _MATTERS * len(rows):
        return []
    of_graphs = f", {graphs:,} of them launches of whole graphs" if graphs else ""
    message = f"launches whose kernels the trace lost: compute is too short and idle time too long{of_graphs}"
    return [Quality(code="launches_without_kernels", message=message, count=len(lost))]


def _device_rows(events: Events) -> Int64s:
    return np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES))
