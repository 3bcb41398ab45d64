"""What a step's host threads did: when each worked, and which worked while the main thread stood still for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, Intervals, merge
from shardprof.trace.events import Events, Mask
from shardprof.trace.replay.draft import Draft
from shardprof.trace.replay.pieces import Pieces

HOST_CATEGORIES = ("cpu_op", "user_annotation", "cuda_runtime", "cuda_driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Unbroken time of one thread as nodes. `piece` are those of its `pieces`, `before` the nodes that end as those
    begin; `first` has no length and begins it, `last` ends it."""

    thread: int
    end_ns: int
    pieces: Pieces
    first: int
    last: int
    piece: Int64s
    before: Int64s

    def arrived(self, time_ns: Int64s) -> Int64s:
        """The nodes that ended when the thread began the pieces that hold these times, each of which is in one."""
        return self.before[self._at(time_ns)]

    def holding(self, time_ns: Int64s) -> Int64s:
        """The nodes of the pieces that hold these times."""
        return self.piece[self._at(time_ns)]

    def _at(self, time_ns: Int64s) -> Int64s:
        return np.searchsorted(self.pieces.begin_ns, time_ns, side="right") - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """Work of another thread, for which the main thread stood still if `is_awaited`."""

    thread: int
    begin_ns: int
    end_ns: int
    is_awaited: bool


def add_stretch(draft: Draft, thread: int, begin_ns: int, end_ns: int, parts: Pieces, after: int) -> Stretch:
    """Draws a thread's time between two instants: its pieces and its work between them, each after the one before it.
    It begins no earlier than the node `after` ends."""
    first = int(draft.add(begin_ns, begin_ns, -1, thread)[0])
    draft.link(after, first)
    count = len(parts)
    begin, end, row = (np.full(2 * count + 1, -1, dtype=np.int64) for _ in range(3))
    begin[0::2], begin[1::2] = np.concatenate(([begin_ns], parts.end_ns)), parts.resumed_ns
    end[0::2], end[1::2] = np.concatenate((parts.begin_ns, [end_ns])), parts.end_ns
    row[1::2] = parts.row
    is_piece = np.arange(2 * count + 1) % 2 == 1
    kept = is_piece | (end > begin)
    nodes = np.concatenate(([first], draft.add(begin[kept], end[kept], row[kept], thread)))
    draft.link(nodes[:-1], nodes[1:])
    of_piece = np.flatnonzero(is_piece[kept]) + 1
    return Stretch(
        thread=thread,
        end_ns=end_ns,
        pieces=parts,
        first=first,
        last=int(nodes[-1]),
        piece=nodes[of_piece],
        before=nodes[of_piece - 1],
    )


def instants(events: Events, thread: int, begin_ns: int, end_ns: int) -> Int64s:
    """When events of a thread begin or end in a step, in order: between two of them nothing is known of it."""
    rows = _host_rows(events, thread)
    rows &= (events.begin_ns <= end_ns) & (events.end_ns >= begin_ns)
    times = np.unique(np.concatenate((events.begin_ns[rows], events.end_ns[rows], [begin_ns, end_ns])))
    return times[(times >= begin_ns) & (times <= end_ns)]


def handoffs(events: Events, thread: int, main_instants: Int64s, main_pieces: Pieces) -> list[Handoff]:
    """When a thread worked, in a step of which these are the main thread's instants and pieces: once for each time in
    which the main thread did nothing else, and once for all between that it did not stand still for."""
    rows = _host_rows(events, thread)
    rows &= (events.begin_ns >= main_instants[0]) & (events.end_ns <= main_instants[-1])
    busy = merge(events.intervals(rows))
    gap = np.searchsorted(main_instants, busy[:, 0], side="right")
    is_alone = np.searchsorted(main_instants, busy[:, 1], side="left") <= gap
    piece = np.searchsorted(main_pieces.begin_ns, busy[:, 0], side="right")
    is_alone &= busy[:, 0] >= np.concatenate(([main_instants[0]], main_pieces.end_ns))[piece]
    key = np.where(is_alone, gap, -1)
    cuts = np.flatnonzero(np.diff(key)) + 1
    return [
        Handoff(thread=thread, begin_ns=int(part[0, 0]), end_ns=int(part[-1, 1]), is_awaited=bool(alone[0]))
        for part, alone in zip(np.split(busy, cuts), np.split(is_alone, cuts), strict=True)
        if len(part)
    ]


def joins(found: list[Handoff]) -> Intervals:
    """When the main thread stood still for other threads, merged."""
    awaited = [(handoff.begin_ns, handoff.end_ns) for handoff in found if handoff.is_awaited]
    return merge(np.array(awaited, dtype=np.int64).reshape(-1, 2))


def _host_rows(events: Events, thread: int) -> Mask:
    rows: Mask = events.in_categories(*HOST_CATEGORIES) & (events.thread == thread)
    return rows
