"""What the time of each step, and of the whole trace, went to on one rank. Definitions: docs/definitions.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import median

import numpy as np

from shardprof import engine
from shardprof.analysis.result import Step, Total
from shardprof.trace.activities import Activities
from shardprof.trace.classes import CLASSES, COMM_KINDS
from shardprof.trace.collectives import Collectives, known_sum
from shardprof.trace.steps import StepWindows

_EMPTY_SHARE = 0.01
"""A step whose work is less than this share of the median step's holds none: the loader had run out."""


def total(activities: Activities) -> Total | None:
    """The sums of a whole trace; None where nothing ran."""
    busy, compute, comm = activities.busy(), activities.compute, activities.all_comm()
    if not len(busy):
        return None
    span_ns = int(busy[-1, 1] - busy[0, 0])
    busy_ns, comm_ns = engine.length_ns(busy), engine.length_ns(comm)
    overlap_ns = engine.length_ns(engine.intersect(compute, comm))
    return Total(
        span_ns=span_ns,
        busy_ns=busy_ns,
        idle_ns=span_ns - busy_ns,
        compute_ns=engine.length_ns(compute),
        comm_ns=comm_ns,
        exposed_comm_ns=comm_ns - overlap_ns,
        overlap_ns=overlap_ns,
        memcpy_ns=engine.length_ns(activities.memcpy),
        memset_ns=engine.length_ns(activities.memset),
        gpu_events=len(activities.launches),
    )


def add(parts: Sequence[Total]) -> Total:
    """The sums over the captured windows of one rank, taken together."""
    names = [spec.name for spec in dataclasses.fields(Total)]
    return Total(**{name: sum(getattr(part, name) for part in parts) for name in names})


def steps(activities: Activities, found: StepWindows, base_ns: int) -> list[Step]:
    """Every step's partition and unions; `base_ns` is what the trace's clock is relative to."""
    windows = found.windows
    compute, comm = activities.compute, activities.all_comm()
    cells = engine.partition_ns(activities.by_precedence(), windows)
    busy_ns = engine.covered_ns(activities.busy(), windows)
    compute_ns, comm_ns = engine.covered_ns(compute, windows), engine.covered_ns(comm, windows)
    overlap_ns = engine.covered_ns(engine.intersect(compute, comm), windows)
    by_kind = {kind: engine.covered_ns(set_of_kind, windows) for kind, set_of_kind in activities.comm.items()}
    overlapped = {
        kind: engine.covered_ns(engine.intersect(compute, set_of_kind), windows)
        for kind, set_of_kind in activities.comm.items()
    }
    launched = _launched_in(activities.collectives, windows)
    rows = [
        Step(
            step=number,
            begin_ns=base_ns + int(windows[i, 0]),
            wall_ns=int(windows[i, 1] - windows[i, 0]),
            busy_ns=int(busy_ns[i]),
            compute_ns=int(compute_ns[i]),
            comm_ns=int(comm_ns[i]),
            overlap_ns=int(overlap_ns[i]),
            partition_ns=dict(zip(CLASSES, cells[i].tolist(), strict=True)),
            comm_kind_ns={kind: int(values[i]) for kind, values in by_kind.items()},
            overlapped_ns={kind: int(values[i]) for kind, values in overlapped.items()},
            comm_bytes=_payload_by_kind(launched[i]),
            comm_calls=_calls_by_kind(launched[i]),
        )
        for i, number in enumerate(found.numbers)
    ]
    return _mark_empty(rows)


def _launched_in(collectives: Collectives, windows: engine.Intervals) -> list[Collectives]:
    """The collectives launched in each window."""
    order = np.argsort(collectives.launched_ns, kind="stable")
    begins, ends = np.searchsorted(collectives.launched_ns[order], windows.T)
    return [collectives.where(order[begin:end]) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _calls_by_kind(collectives: Collectives) -> dict[str, int]:
    calls = np.bincount(collectives.kind, minlength=len(COMM_KINDS)).tolist()
    return {kind: count for kind, count in zip(COMM_KINDS, calls, strict=True) if count}


def _payload_by_kind(collectives: Collectives) -> dict[str, int | None]:
    present = np.flatnonzero(np.bincount(collectives.kind, minlength=len(COMM_KINDS))).tolist()
    return {COMM_KINDS[kind]: known_sum(collectives.payload_bytes[collectives.kind == kind]) for kind in present}


def _mark_empty(rows: list[Step]) -> list[Step]:
    if not rows:
        return rows
    typical_ns = median(row.busy_ns for row in rows)
    return [dataclasses.replace(row, empty=row.busy_ns <= _EMPTY_SHARE * typical_ns) for row in rows]
