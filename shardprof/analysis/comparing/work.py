"""What the captured steps of a run are made of, by name: kernels (operators on CPUs), and collectives by size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from shardprof.analysis.result import Rank, Result
from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.activities import Activities
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives
from shardprof.trace.cpu_activities import is_operator
from shardprof.trace.events import Events, Mask
from shardprof.trace.gpu_collectives import comm_rows
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.run import Run


@dataclass(frozen=True, slots=True)
class Work:
    """Sums over the steps that hold work, of all ranks: calls and time by name, calls and wire bytes by (kind, size).

    A size is a collective's payload; it and `wire_bytes` are UNKNOWN where a trace does not tell. On GPUs names are of
    kernels (but those that communicate), copies and memory sets; on CPUs of operators, whose time is what they spend
    outside the operators that they call.
    """

    calls: Counter[str] = field(default_factory=Counter)
    time_ns: Counter[str] = field(default_factory=Counter)
    collectives: Counter[tuple[str, int]] = field(default_factory=Counter)
    wire_bytes: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, other: Work) -> None:
        """Take the sums of another run, or rank, too."""
        self.calls.update(other.calls)
        self.time_ns.update(other.time_ns)
        self.collectives.update(other.collectives)
        for key, wire in other.wire_bytes.items():
            known = self.wire_bytes.get(key, 0)
            self.wire_bytes[key] = UNKNOWN if UNKNOWN in (wire, known) else known + wire


def work_of(run: Run, result: Result) -> Work:
    """The work in the steps of `result`, the report of `run`; the traces are read again, a rank at a time."""
    ranks: Mapping[int, Rank] = {rank.rank: rank for rank in result.ranks}
    work = Work()
    for traces in run.ranks([]):
        steps = [step for step in ranks[traces.rank].steps if not step.empty]
        windows = np.array([(step.begin_ns, step.begin_ns + step.wall_ns) for step in steps], dtype=np.int64)
        for trace in traces.traces:
            if trace.activities is not None and len(windows):
                work.add(_work(trace.events, trace.activities, merge(windows - trace.base_ns)))
    return work


def _work(events: Events, activities: Activities, windows: Intervals) -> Work:
    work = Work()
    rows = np.flatnonzero(_working(events, activities) & (holding(windows, events.begin_ns) >= 0))
    took_ns = events.end_ns[rows] - events.begin_ns[rows] if activities.device == "cuda" else _self_ns(events, rows)
    sums_ns = np.zeros(len(events.names), dtype=np.int64)
    np.add.at(sums_ns, events.name[rows], took_ns)
    counts = np.bincount(events.name[rows], minlength=len(events.names))
    for name in np.flatnonzero(counts).tolist():
        work.calls[events.names[name]] += int(counts[name])
        work.time_ns[events.names[name]] += int(sums_ns[name])
    _add_collectives(work, activities.collectives.launched_inside(windows))
    return work


def _add_collectives(work: Work, launched: Collectives) -> None:
    keys = np.stack((launched.kind, launched.payload_bytes), axis=1)
    distinct, of_row, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    for i, (kind, size_bytes) in enumerate(distinct.tolist()):
        wire = launched.wire_bytes[of_row.reshape(-1) == i]
        key = (COMM_KINDS[kind], size_bytes)
        work.collectives[key] += int(counts[i])
        work.wire_bytes[key] = UNKNOWN if (wire == UNKNOWN).any() else int(wire.sum())


def _working(events: Events, activities: Activities) -> Mask:
    """Which events are work: what runs on a GPU and does not communicate; on CPUs operators."""
    if activities.device != "cuda":
        operators: Mask = events.in_categories("cpu_op") & events.named(is_operator)
        return operators
    device = events.in_categories(*DEVICE_CATEGORIES)
    device[comm_rows(events)] = False
    return device


def _self_ns(events: Events, rows: Int64s) -> Int64s:
    """What each of some events, nested on their threads, lasts without those directly inside it."""
    begin_ns, end_ns = events.begin_ns[rows], events.end_ns[rows]
    took_ns = end_ns - begin_ns
    order = np.lexsort((-end_ns, begin_ns, events.thread[rows]))
    begins, ends, threads = begin_ns[order].tolist(), end_ns[order].tolist(), events.thread[rows][order].tolist()
    own_ns = took_ns[order].tolist()
    around: list[int] = []
    for i, begin in enumerate(begins):
        while around and (threads[around[-1]] != threads[i] or ends[around[-1]] <= begin):
            around.pop()
        if around:
            own_ns[around[-1]] -= min(ends[i], ends[around[-1]]) - begin
        around.append(i)
    own = np.empty(len(rows), dtype=np.int64)
    own[order] = own_ns
    return own
