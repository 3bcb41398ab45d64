"""Where in a step each class of its partition lies, and each phase of its host: pieces that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.engine import NOTHING, Int64s, Intervals, holding, intersect, merge, union
from shardprof.trace.phases import PHASES, Phases
from shardprof.trace.timeline.sorted_rows import RowStore, Stored

LOADING = "data loading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Pieces of time in order, shape (pieces, 2), and for each what it is, an index into `names`."""

    intervals: Intervals
    name: Int64s
    names: tuple[str, ...]

    def put(self, store: RowStore) -> StoredPieces:
        """Keep them outside of memory."""
        columns = self.intervals.tobytes(), self.name.astype(np.uint8).tobytes()
        return StoredPieces(store=store, columns=store.put(columns), names=self.names)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Name, begin and end of each."""
        for name, (begin_ns, end_ns) in zip(self.name.tolist(), self.intervals.tolist(), strict=True):
            yield self.names[name], begin_ns, end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPieces:
    """Pieces that wait in a store."""

    store: RowStore
    columns: Stored
    names: tuple[str, ...]

    def get(self) -> Pieces:
        """The pieces."""
        intervals, name = self.store.get(self.columns)
        return Pieces(
            intervals=np.frombuffer(intervals, dtype=np.int64).reshape(-1, 2),
            name=np.frombuffer(name, dtype=np.uint8).astype(np.int64),
            names=self.names,
        )


def class_pieces(classes: Sequence[Intervals], names: Sequence[str], windows: Intervals) -> Pieces:
    """The partition of the windows, which do not overlap: each class where none before it is. What no class covers is
    left open. The classes are merged sets, in the order of precedence."""
    covered, pieces = NOTHING, []
    inside = merge(windows)
    for of_class in classes:
        own = intersect(_outside(of_class, covered), inside)
        pieces.append(_cut(own, np.unique(windows)))
        covered = union(covered, of_class)
    return _in_order(pieces, names)


def phase_pieces(phases: Phases, loading: Intervals) -> Pieces:
    """The phases of the steps' host; time inside the DataLoader is loading, whatever is around it. Nothing where no
    backward and no optimizer tell phases apart."""
    names = (LOADING, *PHASES)
    if not len(phases.backward) and not len(phases.optimizer):
        return Pieces(intervals=NOTHING, name=np.zeros(0, dtype=np.int64), names=names)
    edges = np.unique(np.concatenate([phases.steps, phases.backward, phases.optimizer, loading]))
    pieces = np.stack((edges[:-1], edges[1:]), axis=1)
    pieces = pieces[holding(phases.steps, pieces[:, 0]) >= 0]
    code = np.where(holding(loading, pieces[:, 0]) >= 0, 0, phases.at(pieces[:, 0]) + 1)
    step = holding(phases.steps, pieces[:, 0])
    return _joined(Pieces(intervals=pieces, name=code, names=names), step)


def _outside(merged: Intervals, other: Intervals) -> Intervals:
    """What of one merged set lies outside of another."""
    if not len(merged) or not len(other):
        return merged
    first, last = min(merged[0, 0], other[0, 0]), max(merged[-1, 1], other[-1, 1])
    gaps = np.stack((np.append(first, other[:, 1]), np.append(other[:, 0], last)), axis=1)
    return intersect(merged, gaps[gaps[:, 0] < gaps[:, 1]])


def _cut(merged: Intervals, edges: Int64s) -> Intervals:
    """A merged set, cut in two wherever an edge lies inside of it."""
    at = np.searchsorted(merged[:, 0], edges, side="right") - 1
    inside = edges[(at >= 0) & (edges > merged[at, 0]) & (edges < merged[at, 1])] if len(merged) else edges[:0]
    return np.stack([np.sort(np.append(merged[:, side], inside)) for side in (0, 1)], axis=1)


def _in_order(pieces: Sequence[Intervals], names: Sequence[str]) -> Pieces:
    code = np.repeat(np.arange(len(pieces)), [len(part) for part in pieces])
    intervals = np.concatenate([NOTHING, *pieces])
    order = np.argsort(intervals[:, 0], kind="stable")
    return Pieces(intervals=intervals[order], name=code[order], names=tuple(names))


def _joined(pieces: Pieces, step: Int64s) -> Pieces:
    """Neighbours of one name in one step become one."""
    if not len(pieces.name):
        return pieces
    touches = pieces.intervals[1:, 0] == pieces.intervals[:-1, 1]
    alike = (pieces.name[1:] == pieces.name[:-1]) & (step[1:] == step[:-1]) & touches
    firsts, lasts = np.append(True, ~alike), np.append(~alike, True)
    intervals = np.stack((pieces.intervals[firsts, 0], pieces.intervals[lasts, 1]), axis=1)
    return Pieces(intervals=intervals, name=pieces.name[firsts], names=pieces.names)
