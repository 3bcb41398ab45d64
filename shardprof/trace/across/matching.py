"""Which calls of different ranks are one collective: by their number in their group, else by their order in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.shift import Sequence, find_shift
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN

_P2P = COMM_KINDS.index("p2p")
_SIZE_MAY_DIFFER = [COMM_KINDS.index(kind) for kind in ("all_to_all", "other_comm")]
_MOST_WRONG = 0.1
"""Numbers that more than this share of the collectives contradict are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """`instance` of each call: the same for those that are one collective, UNKNOWN where that is not known.

    `unmatched` counts the collectives, `unmatched_p2p` the sends and receives that have no counterpart though another
    rank of their group has calls of the kind; `by_number` says how many rows were matched by their group's numbers.
    """

    instance: Int64s
    by_number: int
    unmatched: int
    unmatched_p2p: int


def match(calls: Calls) -> Matched:
    """The instances, numbered from 0."""
    instance = np.full(len(calls), UNKNOWN, dtype=np.int64)
    signature = _signatures(calls)
    next_instance = by_number = 0
    for rows, is_numbered in _parts(calls, signature):
        found = _by_number(calls, rows) if is_numbered else _by_order(calls, rows, signature)
        known = found != UNKNOWN
        instance[rows[known]] = found[known] + next_instance
        next_instance += int(found.max(initial=UNKNOWN)) + 1
        by_number += len(rows) if is_numbered else 0
    alone = _alone(calls, instance)
    p2p = calls.kind == _P2P
    return Matched(
        instance=instance,
        by_number=by_number,
        unmatched=int((alone & ~p2p).sum()),
        unmatched_p2p=int((alone & p2p).sum()),
    )


def _parts(calls: Calls, signature: Int64s) -> Iterator[tuple[Int64s, bool]]:
    """Rows in which order, or numbers, mean something: of one group, of one pair of ranks that send and receive; where
    the group is not known, of one kind. With numbers all windows are one part."""
    p2p = calls.kind == _P2P
    nameless = np.array([not group.name for group in calls.groups], dtype=np.bool_)[calls.group]
    numbered = ~p2p & ~nameless & (calls.sequence != UNKNOWN)
    for group in np.unique(calls.group[~p2p & ~nameless]).tolist():
        rows = np.flatnonzero((calls.group == group) & ~p2p)
        if numbered[rows].all() and _numbers_hold(calls, rows, signature):
            yield rows, True
        else:
            yield from ((part, False) for part in _split(rows, calls.window))
    loose = np.flatnonzero(~p2p & nameless)
    yield from ((part, False) for part in _split(loose, calls.window, calls.group, calls.kind))
    pairs = np.flatnonzero(p2p & ((calls.source != UNKNOWN) | _are_two(calls)))
    yield from ((part, False) for part in _split(pairs, calls.window, calls.group, calls.source, calls.destination))


def _are_two(calls: Calls) -> np.ndarray:
    """Which rows are of groups of two ranks: who sends to whom is clear there."""
    return np.array([group.size == 2 for group in calls.groups], dtype=np.bool_)[calls.group]


def _split(rows: Int64s, *keys: Int64s) -> Iterator[Int64s]:
    if not len(rows):
        return
    _, which = np.unique(np.stack([key[rows] for key in keys], axis=1), axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    yield from np.split(rows[order], np.flatnonzero(np.diff(which.reshape(-1)[order])) + 1)


def _signatures(calls: Calls) -> Int64s:
    """One number for kind and size of a call, as far as they are the same on all its ranks."""
    size = np.where(np.isin(calls.kind, _SIZE_MAY_DIFFER), UNKNOWN, calls.payload_bytes)
    _, signature = np.unique(np.stack((calls.kind, size), axis=1), axis=0, return_inverse=True)
    return signature.reshape(-1).astype(np.int64)


def _numbers_hold(calls: Calls, rows: Int64s, signature: Int64s) -> bool:
    """Do calls with one number agree in kind and size, as far as can be seen?"""
    instance = _by_number(calls, rows)
    both = np.unique(np.stack((instance, signature[rows]), axis=1), axis=0)
    instances = len(np.unique(instance))
    return len(both) - instances <= _MOST_WRONG * instances


def _by_number(calls: Calls, rows: Int64s) -> Int64s:
    """Calls that were launched together have one number: then the n-th ones of each rank are one."""
    key = np.stack((calls.rank[rows], calls.sequence[rows]), axis=1)
    _, instance = np.unique(np.stack((calls.sequence[rows], _occurrence(key)), axis=1), axis=0, return_inverse=True)
    return instance.reshape(-1).astype(np.int64)


def _occurrence(keys: Int64s) -> Int64s:
    """How many rows with the same key came before each."""
    _, which = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    ordered = which.reshape(-1)[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.append(begins, len(ordered)))
    counted = np.empty(len(keys), dtype=np.int64)
    counted[order] = np.arange(len(keys)) - np.repeat(begins, lengths)
    return counted


def _by_order(calls: Calls, rows: Int64s, signature: Int64s) -> Int64s:
    """Every rank against the one with the most calls."""
    ranks = list(_split(np.arange(len(rows)), calls.rank[rows]))
    sequences = [
        Sequence(signature=signature[rows[part]], step=calls.mark[rows[part]], end_ns=calls.end_ns[rows[part]])
        for part in ranks
    ]
    longest = max(range(len(ranks)), key=lambda i: len(sequences[i]))
    place = np.full(len(rows), UNKNOWN, dtype=np.int64)
    first = 0
    placed = []
    clocks = [calls.clocks.get(int(calls.rank[rows[part[0]]])) for part in ranks]
    for part, sequence, clock in zip(ranks, sequences, clocks, strict=True):
        known, places = _places(sequences[longest], sequence, same_clock=clock is not None and clock == clocks[longest])
        placed.append((part[known], places))
        first = min([first, *places.tolist()])
    for part, places in placed:
        place[part] = places - first
    return place


def _places(reference: Sequence, other: Sequence, *, same_clock: bool) -> tuple[Int64s, Int64s]:
    """Which calls of `other` have a place in `reference`, and which one: also before its first and after its last."""
    if other is reference:
        everything = np.arange(len(other))
        return everything, everything
    if _are_of_other_steps(reference, other):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    shift = find_shift(reference, other, same_clock=same_clock)
    places = np.arange(len(other)) + shift
    inside = (places >= 0) & (places < len(reference))
    if (reference.signature[places[inside]] == other.signature[inside]).all():
        return np.arange(len(other)), places
    return _common(reference, other)


def _are_of_other_steps(reference: Sequence, other: Sequence) -> bool:
    """Do both know their steps, and have none that the other has?"""
    theirs, ours = (sequence.step[sequence.step != UNKNOWN] for sequence in (reference, other))
    return len(theirs) > 0 and len(ours) > 0 and not np.isin(ours, theirs).any()


def _common(reference: Sequence, other: Sequence) -> tuple[Int64s, Int64s]:
    """Where calls were lost on the way: the longest stretches that both have, step by step."""
    theirs = list(zip(reference.step.tolist(), reference.signature.tolist(), strict=True))
    ours = list(zip(other.step.tolist(), other.signature.tolist(), strict=True))
    blocks = difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks()
    known = [block.b + i for block in blocks for i in range(block.size)]
    places = [block.a + i for block in blocks for i in range(block.size)]
    return np.array(known, dtype=np.int64), np.array(places, dtype=np.int64)


def _alone(calls: Calls, instance: Int64s) -> np.ndarray:
    """Calls of a group that several ranks were seen in, whose collective no other rank was seen in."""
    ranks_of_group = np.unique(np.stack((calls.group, calls.rank), axis=1), axis=0)
    shared = np.bincount(ranks_of_group[:, 0], minlength=len(calls.groups))[calls.group] > 1
    known = instance != UNKNOWN
    together = np.zeros(len(calls), dtype=np.bool_)
    together[known] = np.bincount(instance[known])[instance[known]] > 1
    alone: np.ndarray = shared & ~together
    return alone
