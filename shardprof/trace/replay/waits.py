"""Which device activity a call of the host stood still for, if any."""

from __future__ import annotations

import re

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.activities import Activities
from shardprof.trace.device_names import copy_kind
from shardprof.trace.events import Events, Mask
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.replay.pieces import NONE
from shardprof.trace.replay.work import Work

_SYNCHRONIZE = re.compile(r"(?:cuda|cu|hip)(?:Device|Ctx|Stream|Event)Synchronize")
_ALL_STREAMS = re.compile(r"(?:cuda|cu|hip)(?:Device|Ctx)Synchronize")
_CLOCKS_DIFFER_NS = 2_000  # of host and device; and those of traces before 2024 tick in microseconds

# A launch stands still when the queue of launches is full: CUDA's holds 1,024 kernels and fewer copies or graphs.
_LONG_QUEUE = 256
_STANDS_STILL = 4  # times as long as launches usually take


def synchronizes(events: Events) -> Mask:
    """Which rows are calls that return when the device has come so far."""
    return events.in_categories("cuda_runtime", "cuda_driver") & events.named(_SYNCHRONIZE.match)


def launching(events: Events, activities: Activities) -> Mask:
    """Which rows are calls that launched something on a device."""
    is_launch = np.zeros(len(events), dtype=np.bool_)
    is_launch[activities.launches[activities.launches != NONE]] = True
    return is_launch


def awaited_by_calls(events: Events, activities: Activities, calls: Int64s, work: Work) -> Int64s:
    """For each call, in any order, the activity that it waited for; NONE for those that waited for none."""
    if not len(work):
        return np.full(len(calls), NONE)
    latest = _latest_ended(work, events.begin_ns[calls], events.end_ns[calls])
    in_call = (latest != NONE) & (work.end_ns[latest] > events.begin_ns[calls])
    copy = _own_copy(events, calls, work)
    syncs = synchronizes(events)[calls]
    return np.select(
        [
            copy != NONE,
            events.named(_ALL_STREAMS.match)[calls],
            in_call & (syncs | _stood_in_full_queue(events, activities, calls)),
            syncs,
        ],
        [copy, latest, latest, _given_last(events, calls, work)],
        NONE,
    )


def _latest_ended(work: Work, begin_ns: Int64s, end_ns: Int64s) -> Int64s:
    """The last to end, before a call did, of the activities that were launched before it."""
    by_end = np.argsort(work.end_ns, kind="stable")
    position = np.searchsorted(work.end_ns[by_end], end_ns + _CLOCKS_DIFFER_NS, side="right") - 1
    looking = np.arange(len(position))
    while len(looking):
        too_late = work.launched_ns[by_end[position[looking]]] > begin_ns[looking]
        looking = looking[(position[looking] >= 0) & too_late]
        position[looking] -= 1
    return np.where(position >= 0, by_end[position], NONE)


def awaited_on_each_stream(events: Events, calls: Int64s, work: Work) -> tuple[Int64s, Int64s]:
    """Pairs of an activity and the index of a call that waited for it, for calls that wait for all streams: the last
    that each stream was given before."""
    calls_of_all = np.flatnonzero(events.named(_ALL_STREAMS.match)[calls])
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for stream in np.unique(work.stream).tolist():
        given = _last_given(work, np.flatnonzero(work.stream == stream), events.begin_ns[calls[calls_of_all]])
        had_ended = (given != NONE) & (work.end_ns[given] <= events.end_ns[calls[calls_of_all]] + _CLOCKS_DIFFER_NS)
        pairs.append(np.stack((given[had_ended], calls_of_all[had_ended])))
    activity, call = np.concatenate(pairs, axis=1)
    return activity, call


def _given_last(events: Events, calls: Int64s, work: Work) -> Int64s:
    """What the call's thread launched last, if it had ended before the call did: where nothing ends inside a call that
    waits for one stream, it found that stream idle."""
    given = np.full(len(calls), NONE)
    for thread in np.unique(events.thread[calls]).tolist():
        here = np.flatnonzero(events.thread[calls] == thread)
        given[here] = _last_given(work, np.flatnonzero(work.call_thread == thread), events.begin_ns[calls[here]])
    return np.where(work.end_ns[given] <= events.end_ns[calls] + _CLOCKS_DIFFER_NS, given, NONE)


def _last_given(work: Work, some: Int64s, times_ns: Int64s) -> Int64s:
    """The last that was launched before each time, of some activities; NONE if none was."""
    if not len(some):
        return np.full(len(times_ns), NONE)
    some = some[np.argsort(work.launched_ns[some], kind="stable")]
    position = np.searchsorted(work.launched_ns[some], times_ns) - 1
    return np.where(position >= 0, some[position], NONE)


def _stood_in_full_queue(events: Events, activities: Activities, calls: Int64s) -> Mask:
    is_known = activities.launches != NONE
    launched_ns = events.begin_ns[activities.launches[is_known]]
    begun_ns = events.begin_ns[events.in_categories(*DEVICE_CATEGORIES)][is_known]
    end_ns = events.end_ns[calls]
    launched, begun = (np.searchsorted(np.sort(times), end_ns) for times in (launched_ns, begun_ns))
    is_launch = launching(events, activities)
    if not is_launch.any():
        return np.zeros(len(calls), dtype=np.bool_)
    usual_ns = np.median((events.end_ns - events.begin_ns)[is_launch])
    stands_still = end_ns - events.begin_ns[calls] > _STANDS_STILL * usual_ns
    full: Mask = (launched - begun >= _LONG_QUEUE) & stands_still & is_launch[calls]
    return full


def _own_copy(events: Events, calls: Int64s, work: Work) -> Int64s:
    """The copy that the call itself launched, if it returned after that: copies from and to memory that is not pinned
    do so."""
    copies = np.flatnonzero((work.call != NONE) & _blocking_copies(events)[work.row])
    copies = copies[work.end_ns[copies] <= events.end_ns[work.call[copies]] + _CLOCKS_DIFFER_NS]
    copies = copies[np.argsort(work.call[copies], kind="stable")]
    if not len(copies):
        return np.full(len(calls), NONE)
    position = np.minimum(np.searchsorted(work.call[copies], calls), len(copies) - 1)
    return np.where(work.call[copies[position]] == calls, copies[position], NONE)


def _blocking_copies(events: Events) -> Mask:
    return events.in_categories("gpu_memcpy") & events.named(
        lambda name: copy_kind(name) in ("DtoH", "HtoD") and "Pinned" not in name
    )
