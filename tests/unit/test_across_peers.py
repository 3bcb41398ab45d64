"""A send names its receiver only, a receive its sender, by place or by rank: both are ranks of the job afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from shardprof.trace.across.peers import between
from shardprof.trace.collectives import UNKNOWN
from tests.unit.planted import group

STAGES = (0, 2, 4, 6)


def calls(told: str) -> list[tuple[int, int, int]]:
    """Each stage sends to the next one and receives from the one before: rank, source, destination as they are told."""
    found = []
    for place, rank in enumerate(STAGES):
        if place + 1 < len(STAGES):
            found.append((rank, UNKNOWN, place + 1 if told == "place" else STAGES[place + 1]))
        if place:
            found.append((rank, place - 1 if told == "place" else STAGES[place - 1], UNKNOWN))
    return found


def resolved(rows: list[tuple[int, int, int]], ranks: tuple[int, ...] | None = STAGES) -> list[tuple[int, int]]:
    rank, source, destination = np.array(rows, dtype=np.int64).T
    which = np.zeros(len(rows), dtype=np.int64)
    stages = group("pp", ranks) if ranks else group("pp", [])
    pairs = between(rank, source, destination, which, (stages,))
    return list(zip(*(column.tolist() for column in pairs), strict=True))


@pytest.mark.parametrize("told", ["place", "rank"])
def test_peers_are_ranks_of_the_job(told: str) -> None:
    assert resolved(calls(told)) == [(0, 2), (2, 4), (0, 2), (4, 6), (2, 4), (4, 6)]


def test_where_members_are_not_told_the_peer_is_a_rank() -> None:
    assert resolved([(0, UNKNOWN, 1), (1, 0, UNKNOWN)], None) == [(0, 1), (0, 1)]


def test_what_is_told_whole_or_not_at_all_stays() -> None:
    rows = [(0, 3, 5), (1, UNKNOWN, UNKNOWN)]
    assert resolved(rows) == [(3, 5), (UNKNOWN, UNKNOWN)]
