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
from shardprof.trace.timeline.writer import TimelineWriter

_MOST = 50_000
"""Without captured windows, the last so many: a training of days has more than a viewer can hold."""


def write_nccl(
    writer: TimelineWriter, process: int, operations: Operations, windows_ns: Sequence[tuple[int, int]]
) -> int:
    """A slice an operation whose times are known, of those in the captured windows. Where there are none it is the last
    operations; how many came before them is what comes back."""
    timed = np.flatnonzero((operations.begin_ns != UNKNOWN) & (operations.end_ns >= operations.begin_ns))
    rows = _inside(operations, timed, windows_ns) if windows_ns else timed[-_MOST:]
    for place in np.unique(operations.communicator[rows]).tolist():
        of_place = rows[operations.communicator[rows] == place]
        _write(writer, process, operations, place, of_place)
    return 0 if windows_ns else len(timed) - len(rows)


def _inside(operations: Operations, rows: Int64s, windows_ns: Sequence[tuple[int, int]]) -> Int64s:
    inside = np.zeros(len(rows), dtype=np.bool_)
    for begin_ns, end_ns in windows_ns:
        inside |= (operations.end_ns[rows] > begin_ns) & (operations.begin_ns[rows] < end_ns)
    return rows[inside]


def _write(writer: TimelineWriter, process: int, operations: Operations, place: int, rows: Int64s) -> None:
    name = f"NCCL · {title(operations.communicators[place])}" if place != UNKNOWN else "NCCL"
    threads = [writer.thread(process, name)]
    lanes = Lanes()
    begins_ns, ends_ns = operations.begin_ns[rows], operations.end_ns[rows]
    for i in np.lexsort((-ends_ns, begins_ns)).tolist():
        begin_ns, end_ns, row = int(begins_ns[i]), int(ends_ns[i]), int(rows[i])
        lane = lanes.place(begin_ns, end_ns)
        if lane == len(threads):
            threads.append(writer.lane(process, threads[0], name, lane))
        writer.slice(process, threads[lane], *_told(operations, row, begin_ns, end_ns))


def _told(operations: Operations, row: int, begin_ns: int, end_ns: int) -> tuple[str, int, int, dict[str, Any]]:
    words = operations.words
    args: dict[str, Any] = {
        "kind": COMM_KINDS[int(operations.kind[row])],
        "algorithm": words[int(operations.algorithm[row])],
        "protocol": words[int(operations.protocol[row])],
        **{name: int(getattr(operations, name)[row]) for name in ("sequence", "channels", "payload_bytes")},
        "enqueued_before_ns": begin_ns - int(operations.enqueued_ns[row]) if operations.enqueued_ns[row] > 0 else "",
    }
    known = {name: value for name, value in args.items() if value not in ("", UNKNOWN)}
    return words[int(operations.function[row])], begin_ns, end_ns, known
