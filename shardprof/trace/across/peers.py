"""Between whom sends and receives go: torch tells a send only its receiver, and a receive only its sender.

It tells them by their places in the process group; other tools tell ranks of the job. Which of the two it is in a group
is told by how many sends then have a receive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.collectives import UNKNOWN, ProcessGroup


def between(
    rank: Int64s, source: Int64s, destination: Int64s, group: Int64s, groups: Sequence[ProcessGroup]
) -> tuple[Int64s, Int64s]:
    """Source and destination as ranks of the job, for each of some calls that are told one of them or both."""
    source, destination = source.copy(), destination.copy()
    half = (source == UNKNOWN) != (destination == UNKNOWN)
    for index in np.unique(group[half]).tolist():
        rows = np.flatnonzero(half & (group == index))
        is_send = source[rows] == UNKNOWN
        peer = _peers(rank[rows], np.where(is_send, destination[rows], source[rows]), is_send, groups[index])
        source[rows] = np.where(is_send, rank[rows], peer)
        destination[rows] = np.where(is_send, peer, rank[rows])
    return source, destination


def _peers(rank: Int64s, told: Int64s, is_send: np.ndarray, group: ProcessGroup) -> Int64s:
    """The peers as ranks of the job, by whichever reading of what is told pairs more of the sends."""
    members = np.array(group.ranks or (), dtype=np.int64)
    if not len(members) or told.max() >= len(members):
        return told
    placed = members[told]
    return placed if _pairs(rank, placed, is_send) >= _pairs(rank, told, is_send) else told


def _pairs(rank: Int64s, peer: Int64s, is_send: np.ndarray) -> int:
    """How many sends have a receive between the same two ranks; one to itself is none."""
    ways = np.where(is_send[:, None], np.stack((rank, peer), axis=1), np.stack((peer, rank), axis=1))
    sent, received = (Counter(map(tuple, ways[part & (rank != peer)].tolist())) for part in (is_send, ~is_send))
    return (sent & received).total()
