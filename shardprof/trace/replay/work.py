"""What ran off the host in a step, stream by stream, and which call launched it when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.device_names import copy_kind
from shardprof.trace.events import Events, Mask
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.replay.pieces import NONE

_LATE_NS = 10_000
"""What an activity may begin later than usual in its call before that tells of other work in the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The device activities of a step, or gloo's transfers, a row each, by stream and then in the order of time. A
    transfer's stream is its thread.

    `call` is the row of the call that launched it on a device; `launched_ns` when and `call_thread` by which thread it
    was launched, the step's begin and NONE where that was before. A call that first loads a kernel, or copies what it
    sends to pinned memory, launches only then. `previous` is the activity before it on its stream.

    `launch_delay_ns` passes as a rule between a call and its activity on an idle stream, `stream_delay_ns` between two
    on a busy one. `behind_ns` is how long after the step what was launched before its end still runs.
    """

    row: Int64s
    begin_ns: Int64s
    end_ns: Int64s
    stream: Int64s
    call: Int64s
    call_thread: Int64s
    launched_ns: Int64s
    previous: Int64s
    launch_delay_ns: int
    stream_delay_ns: int
    behind_ns: int

    def __len__(self) -> int:
        return len(self.row)

    def ready_ns(self) -> Int64s:
        """When its launch and its stream would have let each begin."""
        by_launch = self.launched_ns + np.where(self.call_thread != NONE, self.launch_delay_ns, 0)
        by_stream = np.where(self.previous != NONE, self.end_ns[self.previous] + self.stream_delay_ns, 0)
        return np.maximum(by_launch, by_stream)


def work_of(trace: KinetoTrace, main: int, main_instants: Int64s) -> Work:
    """What a trace's devices, or its transfers where it has none, did in the step of these instants of its main
    thread, from its begin on."""
    events = trace.events
    step_begin_ns, step_end_ns = main_instants[[0, -1]].tolist()
    every = _launched(trace, main, main_instants)
    inside = every[:, (events.begin_ns[every[0]] < step_end_ns) & (events.end_ns[every[0]] > step_begin_ns)]
    order = np.lexsort((events.end_ns[inside[0]], events.begin_ns[inside[0]], events.thread[inside[0]]))
    row, call, call_thread, launched_ns = inside[:, order]
    # What seems to be launched after the step, though it began in it, was so on clocks that differ.
    in_step = (launched_ns >= step_begin_ns) & (launched_ns < step_end_ns)
    launched_ns = np.where(in_step, launched_ns, step_begin_ns)
    begin_ns, end_ns = np.maximum(events.begin_ns[row], step_begin_ns), events.end_ns[row]
    stream = events.thread[row].astype(np.int64)
    previous = np.arange(len(row)) - 1
    previous[1:][stream[1:] != stream[:-1]] = NONE
    free_ns = np.where(previous != NONE, end_ns[previous], step_begin_ns)
    # Some of what its stream had no reason to delay waited for other streams: most delays are too long for a launch's.
    launch_delay_ns = _at_share(0.25, (begin_ns - launched_ns)[in_step & (free_ns <= launched_ns)])
    is_queued = (previous != NONE) & (launched_ns + launch_delay_ns <= free_ns)
    in_call = in_step & (free_ns <= launched_ns) & _began_inside(events, row, call)
    in_call &= begin_ns - launched_ns - launch_delay_ns > _LATE_NS
    return Work(
        row=row,
        begin_ns=begin_ns,
        end_ns=end_ns,
        stream=stream,
        call=np.where(in_step, call, NONE),
        call_thread=np.where(in_step, call_thread, NONE),
        launched_ns=np.where(in_call, begin_ns - launch_delay_ns, launched_ns),
        previous=previous,
        launch_delay_ns=launch_delay_ns,
        stream_delay_ns=_at_share(0.5, np.maximum(begin_ns - free_ns, 0)[is_queued]),
        behind_ns=max(0, int(events.end_ns[every[0][every[3] < step_end_ns]].max(initial=0)) - step_end_ns),
    )


def _began_inside(events: Events, row: Int64s, call: Int64s) -> Mask:
    """Which activities began before the call that launched them returned, but for copies to the host, which calls send
    off at once and then wait for."""
    to_host = events.named(lambda name: copy_kind(name) == "DtoH")[row]
    inside: Mask = (call != NONE) & (events.begin_ns[row] <= events.end_ns[call]) & ~to_host
    return inside


def _launched(trace: KinetoTrace, main: int, main_instants: Int64s) -> Int64s:
    """Row, call, thread of the call and its time of all that runs off the host in a trace, shape (4, activities)."""
    events, activities = trace.events, trace.activities
    if activities is None:
        return np.empty((4, 0), dtype=np.int64)
    if activities.device == "cpu":
        row, launched_ns = _transfers(events, activities.collectives.launched_ns, main, main_instants)
        return np.stack((row, np.full_like(row, NONE), np.full_like(row, main), launched_ns))
    row, call = np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES)), activities.launches
    before_ns = np.minimum(main_instants[0] - 1, events.begin_ns[row])  # a launch before the trace
    launched_ns = np.where(call != NONE, events.begin_ns[call], before_ns)
    return np.stack((row, call, events.thread[call].astype(np.int64), launched_ns))


def _transfers(events: Events, launched_ns: Int64s, main: int, main_instants: Int64s) -> tuple[Int64s, Int64s]:
    """The transfers that do not run on the main thread, in the order of time, and when they were launched, which
    `launched_ns` tells of all. One whose call is not known was launched after the main thread's instant before it."""
    rows = np.flatnonzero(events.named(lambda name: name.startswith("gloo:")))
    rows = rows[np.argsort(events.begin_ns[rows], kind="stable")]
    position = np.searchsorted(main_instants, events.begin_ns[rows], side="right") - 1
    at_instant = np.where(position >= 0, main_instants[position], launched_ns)
    launched_ns = np.where(launched_ns < events.begin_ns[rows], launched_ns, at_instant)
    elsewhere = events.thread[rows] != main
    return rows[elsewhere], launched_ns[elsewhere]


def _at_share(share: float, delays_ns: Int64s) -> int:
    """The delay that this share of them does not exceed; 0 if there are none."""
    return int(np.sort(delays_ns)[int((len(delays_ns) - 1) * share)]) if len(delays_ns) else 0
