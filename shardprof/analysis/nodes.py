"""The nodes of a recorded run as its ranks come by: each rank gets the counters of its node, each node its notices."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shardprof.analysis.counters import Node, NodeRank, StepTimes, notices, step_counters
from shardprof.analysis.result import Notice, Rank
from shardprof.trace.counters import Counters, Float64s, read_counters
from shardprof.trace.run import HostFolder, RankTraces
from shardprof.trace.schema import COUNTERS_FILE, gpu_of

NODES_IN_MEMORY = 2


class Nodes:
    """The nodes of a run. Their counters are read when they are needed; those of the last ones stay in memory."""

    def __init__(self, hosts: Sequence[HostFolder]) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._ranks: dict[str, list[NodeRank]] = defaultdict(list)
        self._counters = functools.lru_cache(maxsize=NODES_IN_MEMORY)(self._read)

    def with_counters(self, rank: Rank, traces: RankTraces) -> Rank:
        """The rank, its steps with what the counters of its node say of them; the node will have it among its ranks."""
        node_rank = self._node_rank(traces)
        if node_rank is None:
            return rank
        self._ranks[str(traces.host)].append(node_rank)
        begins_ns = np.array([step.begin_ns for step in rank.steps], dtype=np.int64)
        ends_ns = begins_ns + np.array([step.wall_ns for step in rank.steps], dtype=np.int64)
        told = step_counters(self._counters(str(traces.host)), node_rank, begins_ns, ends_ns)
        told |= {"garbage_s": _garbage_s(rank, traces)}
        steps = (
            replace(step, counters={name: _rounded(v[i]) for name, v in sorted(told.items()) if not np.isnan(v[i])})
            for i, step in enumerate(rank.steps)
        )
        return replace(rank, steps=tuple(steps))

    def recorded_counters(self, traces: RankTraces) -> dict[str, Float64s]:
        """What every recorded step of a rank met, by counter; NaN where the samples do not reach around it."""
        node_rank = self._node_rank(traces)
        if node_rank is None:
            return {}
        times = node_rank.steps
        return step_counters(self._counters(str(traces.host)), node_rank, times.begins_ns, times.ends_ns)

    def counters(self, host: str) -> Counters:
        """Those of a node."""
        return self._counters(host)

    def _node_rank(self, traces: RankTraces) -> NodeRank | None:
        """None where the rank's node had no recorder."""
        host = self._hosts.get(traces.host or "")
        if host is None or host.record is None or traces.record is None:
            return None
        gpu = gpu_of(host.record, traces.record)
        return NodeRank(record=traces.record, steps=StepTimes.of(traces.steps), gpu=gpu)

    def notices(self) -> tuple[Notice, ...]:
        """What stands out on any of them, by node."""
        found: list[Notice] = []
        for name, ranks in self._ranks.items():
            if (record := self._hosts[name].record) is not None:
                found += notices(Node(record=record, counters=self._counters(name), ranks=ranks))
        return tuple(found)

    def _read(self, name: str) -> Counters:
        return read_counters(self._hosts[name].folder / COUNTERS_FILE)


def _garbage_s(rank: Rank, traces: RankTraces) -> Float64s:
    """What each step spent in the garbage collector; NaN where in no step anything was collected, or counted."""
    spent_s = {record.step: record.gc_ns / 1e9 for record in traces.steps}
    is_told = any(spent_s.values())
    return np.array([spent_s.get(step.step, np.nan) if is_told else np.nan for step in rank.steps])


def _rounded(value: float) -> float:
    """To nine digits: more than samples hold, and the same on every machine."""
    return float(f"{value:.9g}")
