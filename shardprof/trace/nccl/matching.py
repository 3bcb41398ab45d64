"""Which of NCCL's operations is which captured kernel.

Both are told in the order in which they ran, of one kind and size in one group: what is sought is the one shift of the
kernels among the operations that brings their times together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.collectives import UNKNOWN, Collectives
from shardprof.trace.nccl.operations import Operations

_MOST_APART_NS = 2_000_000
_TRIED = 8


def match(operations: Operations, kernels: Collectives, base_ns: int) -> Int64s:
    """For each kernel the row of its operation, UNKNOWN where there is none; kernels' times are relative to base_ns."""
    found = np.full(len(kernels), UNKNOWN, dtype=np.int64)
    for rows, size in _alike(kernels):
        kind, payload = kernels.kind[rows[0]], kernels.payload_bytes[rows[0]]
        best: tuple[float, Int64s] | None = None
        for candidates in _candidates(operations, kind, payload, size):
            apart_ns, shifted = _best_shift(*_times_ns(operations, candidates, kernels, rows, base_ns))
            if apart_ns < _MOST_APART_NS and (best is None or apart_ns < best[0]):
                best = apart_ns, np.where(shifted >= 0, candidates[shifted], UNKNOWN)
        if best is not None:
            found[rows] = best[1]
    return found


def groups_of(operations: Operations, kernels: Collectives, matched: Int64s) -> dict[int, str]:
    """What the kernels' process groups are for, by communicator."""
    told: dict[int, str] = {}
    for row, operation in enumerate(matched.tolist()):
        group = int(kernels.group[row])
        if operation != UNKNOWN and group != UNKNOWN:
            told.setdefault(int(operations.communicator[operation]), kernels.groups[group].description)
    return told


def _alike(kernels: Collectives) -> Iterator[tuple[Int64s, int | None]]:
    """The kernels of one kind, size and group, in the order in which they ran, and the group's number of ranks."""
    told = np.stack((kernels.kind, kernels.payload_bytes, kernels.group), axis=1)
    for kind, payload, group in np.unique(told, axis=0).tolist():
        rows = np.flatnonzero((told == (kind, payload, group)).all(axis=1))
        size = kernels.groups[group].size if group != UNKNOWN else None
        if payload != UNKNOWN:
            yield rows[np.argsort(kernels.begin_ns[rows], kind="stable")], size


def _candidates(operations: Operations, kind: int, payload: int, size: int | None) -> Iterator[Int64s]:
    """The operations of each communicator that may be these kernels, in the order in which they ran."""
    timed = (operations.begin_ns != UNKNOWN) | (operations.enqueued_ns != UNKNOWN)
    may_be = timed & (operations.kind == kind) & (operations.payload_bytes == payload)
    for place, communicator in enumerate(operations.communicators):
        rows = np.flatnonzero(may_be & (operations.communicator == place))
        if len(rows) and (size is None or communicator.ranks in (None, size)):
            yield rows[np.argsort(_told_ns(operations, rows), kind="stable")]


def _told_ns(operations: Operations, rows: Int64s) -> Int64s:
    begin_ns = operations.begin_ns[rows]
    return begin_ns if (begin_ns != UNKNOWN).all() else operations.enqueued_ns[rows]


def _times_ns(
    operations: Operations, candidates: Int64s, kernels: Collectives, rows: Int64s, base_ns: int
) -> tuple[Int64s, Int64s]:
    """The times to bring together: when both ran; of a log, which does not tell that, when both were launched."""
    ran = (operations.begin_ns[candidates] != UNKNOWN).all()
    of_kernels = kernels.begin_ns if ran else kernels.launched_ns
    return of_kernels[rows] + base_ns, _told_ns(operations, candidates)


def _best_shift(kernels_ns: Int64s, operations_ns: Int64s) -> tuple[float, Int64s]:
    """How far apart the begins are at best, in the median, and the place of each kernel's operation then, or -1."""
    nearest = int(np.searchsorted(operations_ns, kernels_ns[0]))
    best: tuple[float, Int64s] = (float("inf"), np.full(len(kernels_ns), -1))
    for shift in range(nearest - _TRIED, nearest + _TRIED + 1):
        places = np.arange(shift, shift + len(kernels_ns))
        inside = (places >= 0) & (places < len(operations_ns))
        if not inside.any():
            continue
        apart_ns = float(np.median(np.abs(operations_ns[places[inside]] - kernels_ns[inside])))
        missing = len(kernels_ns) - int(inside.sum())
        if apart_ns + missing * _MOST_APART_NS < best[0]:
            best = apart_ns + missing * _MOST_APART_NS, np.where(inside, places, -1)
    return best
