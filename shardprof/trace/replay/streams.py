"""For what an activity waited that ran on another stream: traces tell that streams wait, but not for what."""

from __future__ import annotations

import numpy as np

from shardprof.engine import Int64s, covered_ns, merge
from shardprof.trace.events import Events, Mask
from shardprof.trace.launches import LAUNCH_CATEGORIES
from shardprof.trace.replay.pieces import NONE
from shardprof.trace.replay.work import Work

_LATE_NS = 10_000
"""What begins so long after its launch and its stream let it waited for something else."""

_SOON_NS = 25_000
"""What begins so soon after something ended on another stream may have waited for it."""

_DRAINS_NS = 250_000
"""How long before a kernel's end its last blocks may leave room for another one."""

_BUSY = 0.9
"""The share of a time in which a device works if it has no room for more."""


def awaited_on_other_streams(events: Events, work: Work) -> tuple[Int64s, Int64s]:
    """Pairs of activities: the second waited for the first, on another stream.

    Work beside the busiest stream takes what that was given before the call that makes it wait. Any other activity that
    began later than its launch and its stream tell waited for what ended just before, if its stream was told to wait;
    or for room, if the device was busy all that time.
    """
    if len(work) < 2:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    wait_ns = _last_wait_call_ns(events, work)
    pairs = [_of_busiest_stream(work, wait_ns)]
    late = np.flatnonzero(work.begin_ns - work.ready_ns() > _LATE_NS)
    is_crowded = _device_was_busy(work)
    for stream in np.unique(work.stream).tolist():
        on_stream, others = np.flatnonzero(work.stream == stream), late[work.stream[late] != stream]
        pairs.append(_ended_as_they_began(work, on_stream, others, wait_ns != NONE, is_crowded))
    awaited, waiting = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return awaited, waiting


def _last_wait_call_ns(events: Events, work: Work) -> Int64s:
    """When, since the launch before it on its stream, each activity's stream was last told to wait; NONE if never."""
    is_wait = events.in_categories(*LAUNCH_CATEGORIES) & events.named(lambda name: "StreamWaitEvent" in name)
    told_ns = np.sort(events.begin_ns[is_wait])
    position = np.searchsorted(told_ns, work.launched_ns, side="right") - 1
    last_ns = np.where(position >= 0, told_ns[position], NONE) if len(told_ns) else np.full(len(work), NONE)
    since_ns = np.where(work.previous != NONE, work.launched_ns[work.previous], NONE)
    return np.where((work.call_thread != NONE) & (last_ns >= since_ns), last_ns, NONE)


def _of_busiest_stream(work: Work, wait_ns: Int64s) -> Int64s:
    on_busiest = np.flatnonzero(work.stream == np.bincount(work.stream).argmax())
    on_busiest = on_busiest[np.argsort(work.launched_ns[on_busiest], kind="stable")]
    waiting = np.flatnonzero((wait_ns != NONE) & (work.stream != work.stream[on_busiest[0]]))
    position = np.searchsorted(work.launched_ns[on_busiest], wait_ns[waiting]) - 1
    waiting, awaited = waiting[position >= 0], on_busiest[position[position >= 0]]
    is_true = work.end_ns[awaited] <= work.begin_ns[waiting]
    return np.stack((awaited[is_true], waiting[is_true]))


def _ended_as_they_began(work: Work, on_stream: Int64s, late: Int64s, is_told: Mask, is_crowded: Mask) -> Int64s:
    """For activities that began late the one of a stream that ended just before, or soon after, whose last blocks
    leave room."""
    ends_ns = np.maximum.accumulate(work.end_ns[on_stream])
    begin_ns = work.begin_ns[late]
    position = np.searchsorted(ends_ns, begin_ns - _SOON_NS)
    found = position < len(on_stream)
    awaited = on_stream[np.minimum(position, len(on_stream) - 1)]
    found &= (work.begin_ns[awaited] < begin_ns) & (work.end_ns[awaited] <= begin_ns + _DRAINS_NS)
    found &= (is_told[late] & (work.end_ns[awaited] <= begin_ns)) | is_crowded[late]
    return np.stack((awaited[found], late[found]))


def _device_was_busy(work: Work) -> Mask:
    """For each activity whether the device worked between when it could have begun and when it did."""
    waited = np.stack((np.minimum(work.ready_ns(), work.begin_ns), work.begin_ns), axis=1)
    busy_ns = covered_ns(merge(np.stack((work.begin_ns, work.end_ns), axis=1)), waited)
    is_busy: Mask = busy_ns >= _BUSY * (waited[:, 1] - waited[:, 0])
    return is_busy
