"""What the operating system counts for each rank's process, for the node and for its networks."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path

import psutil

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.counters import Sample, Values, _node
from shardprof.recording.counters._process import Process
from shardprof.trace.schema import Device

RARELY_S = 5.0  # for what costs: every page of a rank, the parent of every process
INFINIBAND_ROOT = Path("/sys/class/infiniband")


def open_source(ranks: NodeRanks) -> HostSource:
    """Every machine has it."""
    return HostSource(ranks)


class HostSource:
    """Samples the ranks of one host as they check in; one whose process has ended is left out until it is restarted."""

    name = "host"
    interval_ns = 250_000_000
    devices: tuple[Device, ...] = ()

    def __init__(self, ranks: NodeRanks, infiniband_root: Path = INFINIBAND_ROOT) -> None:
        self._node_ranks = ranks
        self._ranks: dict[str, Process] = {}
        self._seen: dict[str, int] = {}
        """When each rank that has checked in did so: a later time is another process's."""
        self._rare_at_s = -math.inf
        self._cpu = _node.Cpu()
        self._infiniband = _node.Infiniband(infiniband_root)

    def sample(self) -> Sample:
        """Totals since the process, the node or its driver began; memory, threads and processes as they are."""
        self._find_ranks()
        values: Values = {"node": {}}
        for of_node in (self._cpu.values, _node.memory, _node.swapped, _node.pressure):
            with suppress(OSError, KeyError):  # a sandbox that has no such file
                values["node"] |= of_node()
        with suppress(OSError):
            values |= _node.interfaces()
        values |= self._infiniband.values()
        for subject, process in list(self._ranks.items()):
            try:
                values[subject] = process.values()
            except OSError:
                self._lose(subject)
        if self._ranks and time.monotonic() >= self._rare_at_s + RARELY_S:
            self._rare_at_s = time.monotonic()
            self._add_rare(values)
        return Sample(values)

    def close(self) -> None:
        """Let go of the ranks."""
        for subject in list(self._ranks):
            self._lose(subject)

    def _add_rare(self, values: Values) -> None:
        children = _children()
        for subject, process in self._ranks.items():
            values[subject] |= process.own_memory()
            values[subject]["processes"] = len(_family(process.pid, children))

    def _find_ranks(self) -> None:
        for rank in self._node_ranks.current():
            subject = f"rank {rank.rank}"
            if self._seen.get(subject) != rank.started_ns:
                self._seen[subject] = rank.started_ns
                self._lose(subject)
                with suppress(OSError):
                    self._ranks[subject] = Process(rank.pid)

    def _lose(self, subject: str) -> None:
        if process := self._ranks.pop(subject, None):
            process.close()


def _children() -> dict[int, set[int]]:
    """The pids of every process's children."""
    children: dict[int, set[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], set()).add(process.pid)
    return children


def _family(pid: int, children: dict[int, set[int]]) -> set[int]:
    """`pid` and its descendants."""
    family, unasked = {pid}, [pid]
    while unasked:
        found = children.get(unasked.pop(), set()) - family
        family |= found
        unasked += found
    return family
