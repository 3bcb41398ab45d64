"""How a communicator is connected, while its log is read: rings, trees, channels and links come line by line."""

from __future__ import annotations

import re
from collections import defaultdict

from shardprof.trace.nccl import log_patterns as patterns
from shardprof.trace.nccl.log_record import Link, Topology

_MOST_CHANNELS = 1 << 10
_S = 1_000_000_000


class Draft:
    """What is known so far. `is_closed` where its communicator is complete: lines that begin one are of the next."""

    def __init__(self) -> None:
        self.is_closed = False
        self.init_ns: dict[str, int] = {}
        self._rings: dict[int, tuple[int, ...]] = {}
        self._trees: dict[int, tuple[int | None, tuple[int, ...]]] = {}
        self._channels: dict[str, int] = {}
        self._links: defaultdict[Link, set[str]] = defaultdict(set)
        self._patterns: dict[int, tuple[int, str, str]] = {}
        self._flags: tuple[bool | None, bool | None] = (None, None)

    def ring(self, match: re.Match[str]) -> None:
        """All ranks of a channel, in the ring's order."""
        ranks = [int(rank) for rank in match[2].split()]
        if int(match[1]) < _MOST_CHANNELS:
            self._rings[int(match[1])] = tuple(ranks[:-1] if match[3] else ranks)  # the last one may be cut

    def trees(self, match: re.Match[str]) -> None:
        """This rank's parents and children."""
        for channel, down, _, up in patterns.TREE.findall(match[1]):
            children = tuple(int(rank) for rank in re.findall(r"-?\d+", down) if int(rank) >= 0)
            if int(channel) < _MOST_CHANNELS:
                parent = re.match(r"\d+", up)
                self._trees[int(channel)] = (int(parent[0]) if parent else None, children)

    def channels(self, match: re.Match[str]) -> None:
        """How many channels of each kind there are."""
        for count, kind in patterns.CHANNELS.findall(match.string):
            self._channels[kind] = int(count)

    def link(self, match: re.Match[str]) -> None:
        """A connection; both of its ends tell it."""
        channel, connection, source, target, _, via = match.groups()
        self._links[patterns.link_of(via, int(source), int(target))].add(f"{channel}/{connection}")

    def pattern(self, match: re.Match[str]) -> None:
        """What NCCL found in the machine for rings (4) and trees (1 to 3)."""
        self._patterns[int(match[1])] = (int(match[2]), match[3], match[4])

    def rings_up(self, match: re.Match[str]) -> None:
        """All rings are connected."""
        if match[1]:
            self._flags = (match[1] == "1", match[2] == "1")

    def timings(self, match: re.Match[str]) -> None:
        """What creating it took."""
        parts = (("total", match[2]), *patterns.TIMED.findall(match[3]))
        self.init_ns = {part: _nanoseconds(seconds) for part, seconds in parts}

    def done(self) -> Topology:
        """What is known."""
        return Topology(
            rings=self._rings,
            trees=self._trees,
            channels=self._channels,
            links={link: len(channels) for link, channels in self._links.items()},
            patterns=self._patterns,
            pxn=self._flags[0],
            gdr=self._flags[1],
        )


def _nanoseconds(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole or 0) * _S + int(fraction[:9].ljust(9, "0"))
