"""How well a sequence repeats when it is cut at a given place: told by its pairs of neighbours.

Each distinct pair counts alike, however often it occurs: in A B B B C | A B B B C the B's alone repeat often, but what
happens once in a cycle has to come again too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, UInt32s
from shardprof.trace.events import Mask

_EVEN_LENGTH = 0.05
"""A piece at an end of the sequence whose length differs more from the others' is cut off."""
_MOST_CANDIDATES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Neighbours in a sequence: pair i is of its members i and i + 1. Those of one `id` are of the same two names.

    `by_id` are the pairs sorted by id, those of one id in order; `first` is where each id's begin, `count` how many.
    """

    id: Int64s
    by_id: Int64s
    first: Int64s
    count: Int64s

    def occurrences(self, ids: Int64s) -> Int64s:
        """Where pairs that occur equally often occur, shape (ids, count)."""
        found: Int64s = self.by_id[self.first[ids][:, None] + np.arange(self.count[ids[0]])]
        return found

    def among(self, there: Mask | Int64s) -> Mask:
        """By id, whether any of the pairs `there`, a mask over all pairs or their places, is of it."""
        return np.bincount(self.id[there], minlength=len(self.count)) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A sequence cut after some of its pairs. The pieces at its ends are complete if they are as long as the others.

    Over the distinct pairs of complete pieces, `alike` is the mean of the share that the next piece holds as well.
    `familiar` is the share of all distinct pairs that two neighbouring pieces hold; `once` tells, by id, of which
    pairs every piece holds one.
    """

    after: Int64s
    complete: Mask
    alike: float
    familiar: float
    once: Mask


def pairs_of(sequence: UInt32s) -> Pairs:
    """The pairs of neighbours of a sequence of at least two."""
    keys = sequence[:-1].astype(np.int64) << 32 | sequence[1:]
    ids = np.unique(keys, return_inverse=True)[1]
    count = np.bincount(ids)
    return Pairs(id=ids, by_id=np.argsort(ids, kind="stable"), first=np.cumsum(count) - count, count=count)


def places_to_cut(pairs: Pairs) -> list[Int64s]:
    """After which pairs to cut. What happens once a cycle happens as often as there are cycles, evenly: of the
    commonest numbers of occurrences, the most even pair of each."""
    numbers, support = np.unique(pairs.count[pairs.count > 1], return_counts=True)
    commonest = numbers[np.argsort(-support, kind="stable")][:_MOST_CANDIDATES]
    return [_most_even(pairs.occurrences(np.flatnonzero(pairs.count == number))) for number in commonest.tolist()]


def _most_even(occurrences: Int64s) -> Int64s:
    distances = np.diff(occurrences, axis=1)
    typical = np.median(distances, axis=1, keepdims=True)
    uneven = np.abs(distances - typical).mean(axis=1) / typical[:, 0]
    most_even: Int64s = occurrences[uneven.argmin()]
    return most_even


def cut(pairs: Pairs, after: Int64s) -> Cut:
    """The sequence cut after these pairs, two at least."""
    kinds = len(pairs.count)
    lengths = np.diff(np.concatenate(([-1], after, [len(pairs.id)])))
    typical = np.median(lengths[1:-1])
    complete = np.abs(lengths - typical) <= _EVEN_LENGTH * typical
    complete[1:-1] = True
    pair, piece, held = _held_by_pieces(pairs, after)
    has_next = np.append(complete[:-1] & complete[1:], False)
    neighbours = has_next.astype(np.int64) + np.roll(has_next, 1)
    follows = (pair[1:] == pair[:-1]) & (piece[1:] == piece[:-1] + 1) & has_next[piece[:-1]]
    shared = np.bincount(pair[1:][follows], np.minimum(held[1:], held[:-1])[follows], kinds)
    compared = np.bincount(pair, held * neighbours[piece], kinds)
    known = compared > 0
    inner = np.bincount(pair[(piece > 0) & (piece < len(after))], minlength=kinds)
    return Cut(
        after=after,
        complete=complete,
        alike=float((2 * shared[known] / compared[known]).mean()) if known.any() else 0.0,
        familiar=float((shared > 0).mean()),
        once=(inner == len(after) - 1) & (np.bincount(pair[held > 1], minlength=kinds) == 0),
    )


def _held_by_pieces(pairs: Pairs, after: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Pair id, piece, and how many of the pair the piece holds; only what is held, by pair and then by piece."""
    pair = pairs.id[pairs.by_id]
    piece = np.searchsorted(after, pairs.by_id)  # the pair that is cut belongs to the piece that it ends
    begins = np.flatnonzero(np.concatenate(([True], (pair[1:] != pair[:-1]) | (piece[1:] != piece[:-1]))))
    return pair[begins], piece[begins], np.diff(np.append(begins, len(pair)))
