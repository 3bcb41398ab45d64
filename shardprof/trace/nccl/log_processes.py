"""Which process wrote a line of a log, and which rank it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from shardprof.trace.nccl.log_lines import Line
from shardprof.trace.nccl.log_record import LogCommunicator

MOST_PROCESSES = 1 << 14


@dataclass(slots=True)
class ProcessBeingRead:
    """What is known of a process so far; `rank` is what a launcher or torch says."""

    host: str
    pid: int | None
    label: str
    rank: int | None
    settings: dict[str, str] = field(default_factory=dict)


class Processes:
    """All processes of a log, in the order in which they came."""

    def __init__(self) -> None:
        self.all: list[ProcessBeingRead] = []
        self._by_key: dict[tuple[str, int | None, str], int] = {}
        self._hosts: defaultdict[int, list[str]] = defaultdict(list)

    def of(self, line: Line) -> int | None:
        """Which process wrote a line; None where there are too many already. What a torn line left before a host's name
        is not part of it: of two hosts with the same pid, one the end of the other, the shorter is right."""
        host = line.host
        if line.pid is not None:
            hosts = self._hosts[line.pid]
            host = next((known for known in hosts if host.endswith(known)), host)
            if longer := next((known for known in hosts if known != host and known.endswith(host)), None):
                self._rename(longer, host, line.pid)
        key = (host, line.pid, "" if line.pid is not None else line.label)
        if key not in self._by_key:
            if len(self.all) >= MOST_PROCESSES:
                return None
            self._by_key[key] = len(self.all)
            self.all.append(ProcessBeingRead(host, line.pid, line.label, line.rank))
            if line.pid is not None:
                self._hosts[line.pid].append(host)
        return self._by_key[key]

    def _rename(self, longer: str, host: str, pid: int) -> None:
        index = self._by_key.pop((longer, pid, ""))
        self._by_key[host, pid, ""] = index
        self.all[index].host = host
        self._hosts[pid] = [host if known == longer else known for known in self._hosts[pid]]

    def ranks(self, communicators: Iterable[LogCommunicator]) -> list[int | None]:
        """Of each process its rank in the job: that in its largest communicator where it has one there, else what a
        launcher says."""
        found: dict[int, tuple[int, set[int]]] = {}
        for each in communicators:
            if each.rank is None or each.ranks is None:
                continue
            most, ranks = found.get(each.process, (0, set()))
            if each.ranks >= most:
                found[each.process] = (each.ranks, {each.rank} | (ranks if each.ranks == most else set()))
        told: list[int | None] = [process.rank for process in self.all]
        for index, (_, ranks) in found.items():
            told[index] = ranks.pop() if len(ranks) == 1 else None
        return told

    def same(self, ranks: list[int | None], holders: set[int]) -> dict[int, int]:
        """Which processes without a pid (and without communicators, which `holders` have) are those of the same rank
        with one: torch's lines name ranks only."""
        of_rank: dict[int, int] = {}
        nameless = {}
        for index, (process, rank) in enumerate(zip(self.all, ranks, strict=True)):
            if rank is not None and process.pid is None and index not in holders:
                nameless[index] = rank
            elif rank is not None:
                of_rank.setdefault(rank, index)
        return {index: of_rank[rank] for index, rank in nameless.items() if rank in of_rank}
