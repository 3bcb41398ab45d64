"""One rank's trace while it is in memory, and what rules that need single events ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shardprof.analysis.result import Evidence
from shardprof.engine import Int64s, Intervals, covered_ns, holding, intersect, length_ns, merge
from shardprof.trace.activities import Activities
from shardprof.trace.events import Events, Mask
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.phases import phases_at
from shardprof.trace.replay import StepGraph, step_graph
from shardprof.trace.schema import RankRecord, StepRecord
from shardprof.trace.steps import StepWindows


@dataclass(frozen=True, kw_only=True)
class View:
    """A trace with its steps that hold work, of which there is at least one. Times are on the trace's own clock.

    One step, the `sample`, is replayed to tell what something costs. `record` and `step_records`, of every step whether
    captured or not, are there where shardprof recorded.
    """

    rank: int
    trace: KinetoTrace
    activities: Activities
    steps: StepWindows
    record: RankRecord | None = None
    step_records: tuple[StepRecord, ...] = ()

    @property
    def events(self) -> Events:
        """All events of the trace."""
        return self.trace.events

    @property
    def on_gpu(self) -> bool:
        """Did a GPU do the work?"""
        return self.activities.device == "cuda"

    @cached_property
    def windows(self) -> Intervals:
        """The steps in the order of time."""
        return self.steps.windows[np.argsort(self.steps.windows[:, 0], kind="stable")]

    @cached_property
    def step_ns(self) -> float:
        """The mean step."""
        return length_ns(self.windows) / len(self.windows)

    @cached_property
    def sample(self) -> Intervals:
        """The window of the step of median length, shape (1, 2)."""
        by_length = np.argsort(self.windows[:, 1] - self.windows[:, 0], kind="stable")
        at = by_length[(len(by_length) - 1) // 2]
        return self.windows[at : at + 1]

    @cached_property
    def graph(self) -> StepGraph:
        """What waited for what in the sample."""
        begin_ns, end_ns = self.sample[0].tolist()
        return step_graph(self.trace, begin_ns, end_ns)

    def cost_ns(self, rows: Int64s) -> int:
        """By how much the sample would be shorter if these events took no time."""
        return max(self.graph.replayed_ns() - self.graph.without(rows), 0)

    @cached_property
    def replay_error(self) -> float:
        """How far the sample's replay is from its recorded length where all delays must be explained, as a share."""
        recorded_ns = self.graph.replayed_ns()
        return abs(self.graph.without_lags_ns() - recorded_ns) / max(recorded_ns, 1)

    def rows(self, chosen: Mask | Int64s) -> Int64s:
        """Those of some events that begin in a step."""
        rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return rows[holding(self.windows, self.events.begin_ns[rows]) >= 0]

    def in_sample(self, rows: Int64s) -> Int64s:
        """Those of some events that have a part in the sample."""
        begin_ns, end_ns = self.sample[0].tolist()
        meets: Mask = (self.events.begin_ns[rows] < end_ns) & (self.events.end_ns[rows] > begin_ns)
        return rows[meets]

    def a_step(self, count: float) -> float:
        """What is counted in all steps, in one of them."""
        return count / len(self.windows)

    def a_step_ns(self, merged: Intervals) -> float:
        """How much of a step, in the mean, a merged set takes."""
        return self.a_step(int(covered_ns(merged, self.windows).sum()))

    def exposed_ns(self, merged: Intervals) -> float:
        """How much of a step, in the mean, a merged set takes while nothing computes."""
        return self.a_step_ns(merged) - self.a_step_ns(intersect(merged, self.activities.compute))

    def merged(self, rows: Int64s) -> Intervals:
        """The time of some events."""
        return merge(self.events.intervals(rows))

    def most_exposed(self, rows: Int64s) -> int:
        """Which of some events lasts longest while nothing computes."""
        spans = self.events.intervals(rows)
        return int(rows[(spans[:, 1] - spans[:, 0] - covered_ns(self.activities.compute, spans)).argmax()])

    def phases(self, times_ns: Int64s) -> Int64s:
        """The phase of each time, an index into PHASES."""
        return phases_at(self.events, self.windows, times_ns)

    def at(self, row: int, message: str) -> Evidence:
        """An event as evidence."""
        return self.between(int(self.events.begin_ns[row]), int(self.events.end_ns[row]), message)

    def between(self, begin_ns: int, end_ns: int, message: str) -> Evidence:
        """A time range as evidence, with the step in which it begins."""
        step = int(holding(self.windows, np.array([begin_ns]))[0])
        number = dict(zip(self.steps.windows[:, 0].tolist(), self.steps.numbers, strict=True))
        base_ns = self.trace.base_ns
        return Evidence(
            message=message,
            rank=self.rank,
            step=number[int(self.windows[step, 0])] if step >= 0 else None,
            begin_ns=base_ns + begin_ns,
            end_ns=base_ns + end_ns,
        )
