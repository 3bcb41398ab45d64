"""What each process group moved, by kind: calls, payload and wire bytes over the captured steps, and sizes of calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import CallSize
from shardprof.analysis.result import Collective as CollectiveRow
from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives, ProcessGroup, known_sum

_MOST_SIZES = 64
"""Where routing makes a size a call (all-to-alls of experts), nobody reads them all."""

_Key = tuple[str, str, "tuple[int, ...] | None"]


@dataclass(frozen=True, slots=True)
class _Sum:
    group: ProcessGroup | None
    calls: int
    payload_bytes: int | None
    wire_bytes: int | None
    sizes: tuple[CallSize, ...]
    sizes_left_out: int


class CommunicationTable:
    """Takes the ranks one after the other and tells what each group moved, each collective counted once."""

    def __init__(self) -> None:
        self._largest: dict[_Key, _Sum] = {}

    def add_rank(self, windows: Iterable[Collectives]) -> None:
        """Take the collectives of a rank: those of each captured window."""
        parts: dict[_Key, list[tuple[ProcessGroup | None, Collectives]]] = defaultdict(list)
        for window in windows:
            for key, group, moved in _by_group(window):
                parts[key].append((group, moved))
        for key, of_key in parts.items():
            calls = sum(len(moved) for _, moved in of_key)
            if key not in self._largest or calls > self._largest[key].calls:
                self._largest[key] = _sum(of_key[0][0], [moved for _, moved in of_key])

    def rows(self) -> tuple[CollectiveRow, ...]:
        """A row a kind and group, in the order of the kinds."""
        ordered = sorted(self._largest.items(), key=lambda item: (COMM_KINDS.index(item[0][0]), str(item[0][1:])))
        return tuple(_row(kind, entry) for (kind, _, _), entry in ordered)


def _row(kind: str, entry: _Sum) -> CollectiveRow:
    group = entry.group
    return CollectiveRow(
        kind=kind,
        group=group.description if group else "unknown",
        ranks=group.ranks if group else None,
        group_size=group.size if group else None,
        calls=entry.calls,
        payload_bytes=entry.payload_bytes,
        wire_bytes=entry.wire_bytes,
        sizes=entry.sizes,
        sizes_left_out=entry.sizes_left_out,
    )


def _by_group(collectives: Collectives) -> Iterator[tuple[_Key, ProcessGroup | None, Collectives]]:
    """What each kind moved in each group."""
    pairs = np.unique(np.stack((collectives.kind, collectives.group), axis=1), axis=0)
    for kind, index in pairs.tolist():
        group = collectives.groups[index] if index != UNKNOWN else None
        key = (COMM_KINDS[kind], group.description if group else "", group.ranks if group else None)
        yield key, group, collectives.where((collectives.kind == kind) & (collectives.group == index))


def _sum(group: ProcessGroup | None, parts: Sequence[Collectives]) -> _Sum:
    payload = np.concatenate([part.payload_bytes for part in parts])
    wire = np.concatenate([part.wire_bytes for part in parts])
    lasted_ns = np.concatenate([part.end_ns - part.begin_ns for part in parts])
    sizes, left_out = _sizes(payload, lasted_ns)
    return _Sum(
        group=group,
        calls=len(payload),
        payload_bytes=known_sum(payload),
        wire_bytes=known_sum(wire),
        sizes=sizes,
        sizes_left_out=left_out,
    )


def _sizes(payload_bytes: Int64s, lasted_ns: Int64s) -> tuple[tuple[CallSize, ...], int]:
    """The calls by size, the smallest first: the sizes that took most time in all, and how many others there are."""
    order = np.argsort(payload_bytes, kind="stable")
    sizes, begins = np.unique(payload_bytes[order], return_index=True)
    times_ns = lasted_ns[order]
    most = np.sort(np.argsort(-np.add.reduceat(times_ns, begins), kind="stable")[:_MOST_SIZES])
    ends = np.append(begins[1:], len(order))
    kept = tuple(_size(int(sizes[i]), times_ns[begins[i] : ends[i]]) for i in most)
    return kept, len(sizes) - len(kept)


def _size(payload_bytes: int, times_ns: Int64s) -> CallSize:
    told = None if payload_bytes == UNKNOWN else payload_bytes
    return CallSize(payload_bytes=told, calls=len(times_ns), median_ns=int(np.median(times_ns)))
