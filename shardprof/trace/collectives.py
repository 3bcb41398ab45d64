"""The communications of one rank as columns: what each carried, in which group, and when it was launched and ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.events import Mask

UNKNOWN = -1
"""Stands in columns of bytes and groups where the trace does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """A process group as far as the trace tells: its torch name, what it is for, how many ranks, which."""

    name: str
    description: str
    size: int | None
    ranks: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One communication of one rank: when it was launched on the CPU, when it ran, what it carried.

    `payload_bytes` is the output of an all-gather, the input of a reduce-scatter, the buffer of the others;
    `wire_bytes` what the rank sends for it. `sequence` is its number among the collectives of its group, the same on
    all ranks. `source` and `destination` are of sends and receives. `row` is the event, a kernel or a transfer, that it
    was read from. None is what the trace does not tell.
    """

    kind: str
    launched_ns: int
    begin_ns: int
    end_ns: int
    payload_bytes: int | None
    wire_bytes: int | None
    group: ProcessGroup | None
    sequence: int | None = None
    source: int | None = None
    destination: int | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives:
    """A row a Collective, whose None is UNKNOWN. `kind` is an index into COMM_KINDS, `group` one into `groups`."""

    kind: Int64s
    launched_ns: Int64s
    begin_ns: Int64s
    end_ns: Int64s
    payload_bytes: Int64s
    wire_bytes: Int64s
    group: Int64s
    sequence: Int64s
    source: Int64s
    destination: Int64s
    row: Int64s
    groups: tuple[ProcessGroup, ...]

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[Collective]:
        for i, kind in enumerate(self.kind.tolist()):
            group = int(self.group[i])
            yield Collective(
                kind=COMM_KINDS[kind],
                launched_ns=int(self.launched_ns[i]),
                begin_ns=int(self.begin_ns[i]),
                end_ns=int(self.end_ns[i]),
                payload_bytes=_known(int(self.payload_bytes[i])),
                wire_bytes=_known(int(self.wire_bytes[i])),
                group=self.groups[group] if group != UNKNOWN else None,
                sequence=_known(int(self.sequence[i])),
                source=_known(int(self.source[i])),
                destination=_known(int(self.destination[i])),
                row=_known(int(self.row[i])),
            )

    def where(self, rows: Mask | Int64s) -> Collectives:
        """Some of the rows."""
        return replace(self, **{column: getattr(self, column)[rows] for column in COLUMNS})

    def launched_inside(self, windows: Intervals) -> Collectives:
        """Those that were launched in one of the windows, which may come in any order."""
        return self.where(holding(merge(windows), self.launched_ns) >= 0)

    def intervals(self, kind: str) -> Intervals:
        """When communication of one kind ran, merged."""
        rows = self.kind == COMM_KINDS.index(kind)
        return merge(np.stack((self.begin_ns[rows], self.end_ns[rows]), axis=1))


COLUMNS = tuple(spec.name for spec in fields(Collectives) if spec.name != "groups")


def known_sum(sizes: Int64s) -> int | None:
    """The sum of sizes; None where one is UNKNOWN, since the rest would pass for the whole."""
    return None if (sizes == UNKNOWN).any() else int(sizes.sum())


def as_columns(collectives: Sequence[Collective]) -> Collectives:
    """The columns of some Collectives."""
    groups = tuple(dict.fromkeys(c.group for c in collectives if c.group is not None))
    index = {group: i for i, group in enumerate(groups)}
    return Collectives(
        kind=_column([COMM_KINDS.index(c.kind) for c in collectives]),
        launched_ns=_column([c.launched_ns for c in collectives]),
        begin_ns=_column([c.begin_ns for c in collectives]),
        end_ns=_column([c.end_ns for c in collectives]),
        payload_bytes=_column([_or_unknown(c.payload_bytes) for c in collectives]),
        wire_bytes=_column([_or_unknown(c.wire_bytes) for c in collectives]),
        group=_column([index[c.group] if c.group else UNKNOWN for c in collectives]),
        sequence=_column([_or_unknown(c.sequence) for c in collectives]),
        source=_column([_or_unknown(c.source) for c in collectives]),
        destination=_column([_or_unknown(c.destination) for c in collectives]),
        row=_column([_or_unknown(c.row) for c in collectives]),
        groups=groups,
    )


def _column(values: Sequence[int]) -> Int64s:
    return np.array(values, dtype=np.int64)


def _known(value: int) -> int | None:
    return None if value == UNKNOWN else value


def _or_unknown(value: int | None) -> int:
    return UNKNOWN if value is None else value
