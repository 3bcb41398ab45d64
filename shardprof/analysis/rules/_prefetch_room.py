"""The compute that all-gathers of parameters could run under if they were launched earlier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s, Intervals, holding, intersect, merge
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.phases import BACKWARD, FORWARD, PHASES


@dataclass(frozen=True, slots=True, kw_only=True)
class Room(Observation):
    """Compute between the all-gathers of one `phase` that no communication runs beside. Where they follow one another
    without a break there is none: then launching them earlier wins nothing."""

    phase: str
    room_ns: float


def observe(view: View) -> Iterator[Room]:
    """The room of forward and of backward, where something is gathered in them."""
    every = view.activities.collectives
    gathers = every.launched_inside(view.windows)
    gathers = gathers.where(gathers.kind == COMM_KINDS.index("all_gather"))
    gathers = gathers.where(np.argsort(gathers.launched_ns, kind="stable"))
    phases = view.phases(gathers.launched_ns)
    passes = _passes(phases, holding(view.windows, gathers.launched_ns))
    for phase in (FORWARD, BACKWARD):
        spans = [(gathers.begin_ns[p].min(), gathers.end_ns[p].max()) for p in passes if phases[p[0]] == phase]
        if spans:
            room_ns = _uncovered_ns(view, merge(np.array(spans, dtype=np.int64)))
            yield Room(rank=view.rank, phase=PHASES[phase], room_ns=room_ns)


def _passes(phases: Int64s, steps: Int64s) -> list[Int64s]:
    """The all-gathers, in order, of each forward and of each backward: a step may have several of each."""
    changes = np.flatnonzero((np.diff(phases) != 0) | (np.diff(steps) != 0)) + 1
    return [rows for rows in np.split(np.arange(len(phases)), changes) if len(rows)]


def _uncovered_ns(view: View, spans: Intervals) -> float:
    compute = intersect(spans, view.activities.compute)
    return view.a_step_ns(compute) - view.a_step_ns(intersect(compute, view.activities.all_comm()))
