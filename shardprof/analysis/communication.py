"""What each process group moved, by kind: calls, payload and wire bytes over the captured steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shardprof.analysis.result import Collective as CollectiveRow
from shardprof.analysis.result import sum_if_all_known
from shardprof.engine import Intervals
from shardprof.trace.activities import Collective, ProcessGroup
from shardprof.trace.classes import COMM_KINDS

_Key = tuple[str, str, "tuple[int, ...] | None"]


@dataclass(slots=True)
class _Sum:
    group: ProcessGroup | None
    calls: int = 0
    payload_bytes: list[int | None] = field(default_factory=list)
    wire_bytes: list[int | None] = field(default_factory=list)


class CommunicationTable:
    """Takes the ranks one after the other and tells what each group moved, each collective counted once."""

    def __init__(self) -> None:
        self._largest: dict[_Key, _Sum] = {}

    def add_rank(self, collectives: Iterable[Collective]) -> None:
        """Take the collectives of a rank, of all its captured windows together."""
        sums: dict[_Key, _Sum] = {}
        for collective in collectives:
            group = collective.group
            key = (collective.kind, group.description if group else "", group.ranks if group else None)
            entry = sums.setdefault(key, _Sum(group))
            entry.calls += 1
            entry.payload_bytes.append(collective.payload_bytes)
            entry.wire_bytes.append(collective.wire_bytes)
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
        payload_bytes=sum_if_all_known(entry.payload_bytes),
        wire_bytes=sum_if_all_known(entry.wire_bytes),
    )


def launched_inside(collectives: Sequence[Collective], steps: Intervals) -> list[Collective]:
    """Those of a trace's collectives that were launched inside one of its steps."""
    spans = steps.tolist()
    return [c for c in collectives if any(begin <= c.launched_ns < end for begin, end in spans)]
