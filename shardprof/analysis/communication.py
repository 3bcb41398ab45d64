"""What each process group moved, by kind: calls, payload and wire bytes over the captured steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Collective as CollectiveRow
from shardprof.analysis.result import sum_if_all_known
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives, ProcessGroup, known_sum

_Key = tuple[str, str, "tuple[int, ...] | None"]


@dataclass(slots=True)
class _Sum:
    group: ProcessGroup | None
    calls: int
    payload_bytes: int | None
    wire_bytes: int | None

    def add(self, other: _Sum) -> None:
        self.calls += other.calls
        self.payload_bytes = sum_if_all_known([self.payload_bytes, other.payload_bytes])
        self.wire_bytes = sum_if_all_known([self.wire_bytes, other.wire_bytes])


class CommunicationTable:
    """Takes the ranks one after the other and tells what each group moved, each collective counted once."""

    def __init__(self) -> None:
        self._largest: dict[_Key, _Sum] = {}

    def add_rank(self, windows: Iterable[Collectives]) -> None:
        """Take the collectives of a rank: those of each captured window."""
        sums: dict[_Key, _Sum] = {}
        for key, part in itertools.chain.from_iterable(map(_sums, windows)):
            if key in sums:
                sums[key].add(part)
            else:
                sums[key] = part
        for key, entry in sums.items():
            if key not in self._largest or entry.calls > self._largest[key].calls:
                self._largest[key] = entry

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
    )


def _sums(collectives: Collectives) -> Iterator[tuple[_Key, _Sum]]:
    """What each kind moved in each group."""
    pairs = np.unique(np.stack((collectives.kind, collectives.group), axis=1), axis=0)
    for kind, index in pairs.tolist():
        group = collectives.groups[index] if index != UNKNOWN else None
        moved = collectives.where((collectives.kind == kind) & (collectives.group == index))
        key = (COMM_KINDS[kind], group.description if group else "", group.ranks if group else None)
        payload, wire = known_sum(moved.payload_bytes), known_sum(moved.wire_bytes)
        yield key, _Sum(group=group, calls=len(moved), payload_bytes=payload, wire_bytes=wire)
