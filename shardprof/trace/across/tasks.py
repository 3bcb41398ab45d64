"""What a rank computed in its steps, to be compared with what other ranks did: the same, or more of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.work import outer_operators

Task = tuple[str, int]
"""A kernel or operator by its name and shape; the shape is 0 where the trace tells none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """How often each task ran in so many `steps`, and for how long in all."""

    steps: int
    calls: Mapping[Task, int]
    time_ns: Mapping[Task, int]


def tasks_of(trace: KinetoTrace, windows: Intervals) -> Tasks:
    """The kernels that compute or, on CPUs, the outermost operators of the main thread, that begin in these steps."""
    events, rows = trace.events, _computing(trace)
    rows = rows[holding(merge(windows), events.begin_ns[rows]) >= 0]
    keys = events.name[rows].astype(np.int64) << 32 | events.shape[rows]
    distinct, of_row, calls = np.unique(keys, return_inverse=True, return_counts=True)
    spans_ns = (events.end_ns[rows] - events.begin_ns[rows]).astype(np.float64)
    time_ns = np.bincount(of_row.reshape(-1), spans_ns, minlength=len(distinct)).astype(np.int64)
    tasks = [(events.names[key >> 32], key & 0xFFFFFFFF) for key in distinct.tolist()]
    return Tasks(
        steps=len(windows),
        calls=dict(zip(tasks, calls.tolist(), strict=True)),
        time_ns=dict(zip(tasks, time_ns.tolist(), strict=True)),
    )


def add_tasks(parts: list[Tasks]) -> Tasks:
    """The sums of several captured windows."""
    calls: dict[Task, int] = {}
    time_ns: dict[Task, int] = {}
    for part in parts:
        for task, count in part.calls.items():
            calls[task] = calls.get(task, 0) + count
            time_ns[task] = time_ns.get(task, 0) + part.time_ns[task]
    return Tasks(steps=sum(part.steps for part in parts), calls=calls, time_ns=time_ns)


def _computing(trace: KinetoTrace) -> Int64s:
    events, activities = trace.events, trace.activities
    if activities is None:
        return np.empty(0, dtype=np.int64)
    if activities.device == "cuda":
        computes = events.in_categories("kernel")
        computes[activities.collectives.row[activities.collectives.row != UNKNOWN]] = False
        return np.flatnonzero(computes)
    operators = outer_operators(events, trace.main_thread)
    return operators[holding(activities.data_loading, events.begin_ns[operators]) < 0]
