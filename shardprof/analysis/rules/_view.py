"""One rank's trace while it is in memory, and what rules that need single events ask of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shardprof.analysis.result import Evidence
from shardprof.engine import Int64s, Intervals, covered_ns, holding, intersect, length_ns, merge
from shardprof.trace.activities import Activities
from shardprof.trace.events import Events, Mask
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.phases import Phases, phases_of
from shardprof.trace.replay import StepGraph, step_graph
from shardprof.trace.schema import RankRecord, StepRecord
from shardprof.trace.steps import StepWindows

RUNS_AHEAD = 0.05
"""Of a step's length: devices that still work for longer after its end than this, and than they idled in it, the host
has run ahead of; others catch up with it."""

UPDATE = re.compile(r"^Optimizer\.step#(\w+)\.step$")
"""torch's own range around an optimizer's step."""


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
        """What waited for what in the sample; until its devices are done where the host runs ahead of them."""
        begin_ns, end_ns = self.sample[0].tolist()
        graph = step_graph(self.trace, begin_ns, end_ns)
        idle_ns = end_ns - begin_ns - int(covered_ns(self.activities.busy(), self.sample)[0])
        runs_ahead = graph.behind_ns > max(RUNS_AHEAD * (end_ns - begin_ns), idle_ns)
        return graph.until_devices() if runs_ahead else graph

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
        return self._phases.at(times_ns)

    @cached_property
    def _phases(self) -> Phases:
        return phases_of(self.events, self.windows)

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

    def launching(self, rows: Int64s) -> Int64s:
        """The calls that launched some activities of a device, as far as the trace holds them."""
        calls = self.launches(rows)
        return calls[calls >= 0]

    def idled_ns(self, calls: Int64s) -> float:
        """How much of a step, in the mean, a device can have idled because the host stood in these calls: no longer
        than it stood there, and no longer than the device lacked launched work."""
        return min(self.a_step_ns(self.merged(calls)), self.a_step_ns(self.activities.late_launches))

    def launches(self, rows: Int64s) -> Int64s:
        """The call that launched each of some activities of a device, -1 where the trace does not hold it."""
        on_device = np.flatnonzero(self.events.in_categories(*DEVICE_CATEGORIES))
        calls: Int64s = self.activities.launches[np.searchsorted(on_device, rows)]
        return calls

    @property
    def device_bytes(self) -> int | None:
        """The memory of a device, of unlike ones the smallest; None where the trace does not tell."""
        told = self.trace.metadata.get("deviceProperties")
        devices = told if isinstance(told, list) else []
        sizes = [device.get("totalGlobalMem") for device in devices if isinstance(device, dict)]
        return min((size for size in sizes if isinstance(size, int) and size > 0), default=None)

    @property
    def peak_bytes(self) -> int | None:
        """The most device memory that torch's allocator reserved; None where that was not recorded."""
        peaks = [record.cuda_memory.get("peak_reserved_bytes", 0) for record in self.step_records]
        return max(peaks, default=0) or None

    @cached_property
    def updates(self) -> Int64s:
        """The optimizers' steps in which no closure computes gradients."""
        events = self.events
        rows = self.rows(events.named(UPDATE.match) & events.in_categories("user_annotation", "cpu_op"))
        nodes_ns = np.sort(events.begin_ns[events.named(lambda name: name.startswith("autograd::engine::"))])
        inside = np.searchsorted(nodes_ns, events.end_ns[rows]) - np.searchsorted(nodes_ns, events.begin_ns[rows])
        alone: Int64s = rows[inside == 0]
        return alone
