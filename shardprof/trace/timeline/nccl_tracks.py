"""NCCL's own account of a rank as tracks of the timeline, one a communicator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.nccl.naming import title
from shardprof.trace.nccl.operations import Operations
from shardprof.trace.timeline.lanes import Lanes
from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import Slice, TimelineWriter

_MOST = 50_000
"""Without captured windows, the last so many: a training of days has more than a viewer can hold."""


class NcclTracks:
    """A slice an operation whose times are known, of those in the captured windows. Where there are none it is the last
    operations; `left_out` says how many came before them."""

    def __init__(
        self, writer: TimelineWriter, process: int, operations: Operations, windows_ns: Sequence[tuple[int, int]]
    ) -> None:
        self._writer = writer
        self._process = process
        self._operations = operations
        timed = np.flatnonzero((operations.begin_ns != UNKNOWN) & (operations.end_ns >= operations.begin_ns))
        rows = _inside(operations, timed, windows_ns) if windows_ns else timed[-_MOST:]
        self.left_out = 0 if windows_ns else len(timed) - len(rows)
        self._places = [
            (self._thread(place), rows[operations.communicator[rows] == place])
            for place in np.unique(operations.communicator[rows]).tolist()
        ]

    def write(self) -> None:
        """Write them, communicator by communicator."""
        for (thread, name), rows in self._places:
            self._write(thread, name, rows)

    def _thread(self, place: int) -> tuple[int, str]:
        name = f"NCCL · {title(self._operations.communicators[place])}" if place != UNKNOWN else "NCCL"
        return self._writer.thread(self._process, name, Shelf.NCCL), name

    def _write(self, thread: int, name: str, rows: Int64s) -> None:
        threads, lanes = [thread], Lanes()
        begins_ns, ends_ns = self._operations.begin_ns[rows], self._operations.end_ns[rows]
        for i in np.lexsort((-ends_ns, begins_ns)).tolist():
            begin_ns, end_ns, row = int(begins_ns[i]), int(ends_ns[i]), int(rows[i])
            lane = lanes.place(begin_ns, end_ns)
            if lane == len(threads):
                threads.append(self._writer.lane(self._process, thread, name, lane))
            self._writer.slice(self._process, threads[lane], _told(self._operations, row, begin_ns, end_ns))


def _inside(operations: Operations, rows: Int64s, windows_ns: Sequence[tuple[int, int]]) -> Int64s:
    inside = np.zeros(len(rows), dtype=np.bool_)
    for begin_ns, end_ns in windows_ns:
        inside |= (operations.end_ns[rows] > begin_ns) & (operations.begin_ns[rows] < end_ns)
    return rows[inside]


def _told(operations: Operations, row: int, begin_ns: int, end_ns: int) -> Slice:
    words = operations.words
    args: dict[str, Any] = {
        "kind": COMM_KINDS[int(operations.kind[row])],
        "algorithm": words[int(operations.algorithm[row])],
        "protocol": words[int(operations.protocol[row])],
        **{name: int(getattr(operations, name)[row]) for name in ("sequence", "channels", "payload_bytes")},
        "enqueued_before_ns": begin_ns - int(operations.enqueued_ns[row]) if operations.enqueued_ns[row] > 0 else "",
    }
    known = {name: value for name, value in args.items() if value not in ("", UNKNOWN)}
    return Slice("nccl", words[int(operations.function[row])], begin_ns, end_ns, known)
