"""CPU, memory and threads of each rank's process, and the node's network, as the operating system counts them."""

from __future__ import annotations

import math
import time
from typing import Any

import psutil

from shardprof.record.counters import Sample, Values
from shardprof.trace.schema import RANK_FILE, Device, RankRecord, RunFolder, read_whole

COUNTING_INTERVAL_S = 5.0  # it asks every process of the machine for its parent


def open_source(run: RunFolder, host: str) -> HostSource:
    """Every machine has it."""
    return HostSource(run, host)


class HostSource:
    """Samples the ranks of one host as they check in; a rank whose process has ended is left out."""

    name = "host"
    interval_ns = 250_000_000
    devices: tuple[Device, ...] = ()

    def __init__(self, run: RunFolder, host: str) -> None:
        self._run = run
        self._host = host
        self._seen: set[str] = set()
        self._processes: dict[str, Any] = {}
        self._counted_at = -math.inf
        psutil.cpu_percent()  # the first call only sets the reference point

    def sample(self) -> Sample:
        """Cumulative CPU seconds, switches and network bytes; memory, threads and processes as they are."""
        self._find_ranks()
        values: Values = {"node": _node()}
        for name, counters in psutil.net_io_counters(pernic=True).items():
            values[name] = {"tx_bytes": counters.bytes_sent, "rx_bytes": counters.bytes_recv}
        for subject, process in list(self._processes.items()):
            try:
                if process.status() != psutil.STATUS_ZOMBIE:  # ended, and its counters with it
                    values[subject] = _process(process)
            except psutil.Error:
                del self._processes[subject]
        self._count_processes(values)
        return Sample(values)

    def close(self) -> None:
        """There is nothing to give back."""

    def _count_processes(self, values: Values) -> None:
        """How many processes each rank consists of, itself included."""
        ranks = values.keys() & self._processes.keys()
        if not ranks or time.monotonic() < self._counted_at + COUNTING_INTERVAL_S:
            return
        self._counted_at = time.monotonic()
        children: dict[int, set[int]] = {}
        for process in psutil.process_iter(["ppid"]):
            children.setdefault(process.info["ppid"], set()).add(process.pid)
        for subject in ranks:
            values[subject]["processes"] = len(_family(self._processes[subject].pid, children))

    def _find_ranks(self) -> None:
        for folder in self._run.rank_folders():
            if folder.name in self._seen:
                continue
            try:
                rank = read_whole(RankRecord, folder / RANK_FILE)
                if rank.host == self._host:
                    self._processes[f"rank {rank.rank}"] = psutil.Process(rank.pid)
            except (OSError, ValueError, TypeError):
                continue  # not written yet: the next sample finds it
            except psutil.Error:
                pass
            self._seen.add(folder.name)


def _node() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {"cpu_percent": psutil.cpu_percent(), "memory_used_bytes": memory.total - memory.available}


def _process(process: Any) -> dict[str, float]:
    with process.oneshot():
        cpu, switches = process.cpu_times(), process.num_ctx_switches()
        return {
            "cpu_user_s": cpu.user,
            "cpu_system_s": cpu.system,
            "rss_bytes": process.memory_info().rss,
            "threads": process.num_threads(),
            "voluntary_context_switches": switches.voluntary,
            "involuntary_context_switches": switches.involuntary,
        }


def _family(pid: int, children: dict[int, set[int]]) -> set[int]:
    """`pid` and its descendants."""
    family, unasked = {pid}, [pid]
    while unasked:
        found = children.get(unasked.pop(), set()) - family
        family |= found
        unasked += found
    return family
