"""The parts of a host thread's time that matter one by one: where it launches something, where it stands still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s

NONE = -1
"""Stands for no event, no call and no work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Pieces of the threads of a step, a row each. One that takes no time is where the thread launches something.

    `row` is a piece's event, NONE where there is none; `awaited` is the work off the host that the thread waited for,
    NONE if for none. The thread went on at `resumed_ns`: when it began if it never stood still.
    """

    row: Int64s
    thread: Int64s
    begin_ns: Int64s
    end_ns: Int64s
    resumed_ns: Int64s
    awaited: Int64s

    def __len__(self) -> int:
        return len(self.row)

    def of(self, thread: int, begin_ns: int, end_ns: int) -> Pieces:
        """Those of a thread between two times, in order and clipped to that time. What lies inside another one is left
        out."""
        rows = np.flatnonzero((self.thread == thread) & (self.begin_ns < end_ns) & (self.end_ns >= begin_ns))
        takes_time = self.end_ns[rows] > self.begin_ns[rows]
        rows = rows[np.lexsort((-self.end_ns[rows], takes_time, self.begin_ns[rows]))]
        begin, end = np.maximum(self.begin_ns[rows], begin_ns), np.minimum(self.end_ns[rows], end_ns)
        done = np.concatenate(([begin_ns], np.maximum.accumulate(end)))[: len(end)]
        kept = (end > done) | (begin >= done)
        rows, begin, end = rows[kept], np.maximum(begin, done)[kept], end[kept]
        return Pieces(
            row=self.row[rows],
            thread=self.thread[rows],
            begin_ns=begin,
            end_ns=end,
            resumed_ns=np.clip(self.resumed_ns[rows], begin, end),
            awaited=self.awaited[rows],
        )


def pieces(*columns: Int64s | int) -> Pieces:
    """Pieces by their columns, in the order of the fields; a number holds for all."""
    row, thread, begin_ns, end_ns, resumed_ns, awaited = (
        column.astype(np.int64) for column in np.broadcast_arrays(*np.atleast_1d(*columns))
    )
    return Pieces(row=row, thread=thread, begin_ns=begin_ns, end_ns=end_ns, resumed_ns=resumed_ns, awaited=awaited)


def together(parts: Iterable[Pieces]) -> Pieces:
    """All pieces of some."""
    columns = [(p.row, p.thread, p.begin_ns, p.end_ns, p.resumed_ns, p.awaited) for p in parts]
    return pieces(*(np.concatenate(column) for column in zip(*columns, strict=True)))
