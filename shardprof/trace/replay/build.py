"""Draws the graph of one recorded step: host threads, what they launched, and what waited for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, Intervals
from shardprof.trace.activities import Activities
from shardprof.trace.events import Events
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import LAUNCH_CATEGORIES
from shardprof.trace.replay.draft import START, Draft
from shardprof.trace.replay.graph import OFF_HOST, StepGraph
from shardprof.trace.replay.host import Handoff, Stretch, add_stretch, handoffs, instants, joins
from shardprof.trace.replay.meetings import device_calls, transfer_calls
from shardprof.trace.replay.pieces import NONE, Pieces, pieces, together
from shardprof.trace.replay.streams import awaited_on_other_streams
from shardprof.trace.replay.waits import awaited_on_each_stream
from shardprof.trace.replay.work import Work, work_of


def step_graph(trace: KinetoTrace, begin_ns: int, end_ns: int) -> StepGraph:
    """The graph of a trace's step between two times of its clock; the step ends when its main thread gets there."""
    main = _main_thread(trace)
    main_instants = instants(trace.events, main, begin_ns, end_ns)
    work = work_of(trace, main, main_instants)
    on_device = _device_activities(trace)
    if on_device is not None:
        parts = device_calls(trace.events, on_device, work, main_instants)
    else:
        parts = transfer_calls(trace.events, work, main, main_instants)
    draft = Draft(begin_ns)
    nodes = draft.add(work.begin_ns, work.end_ns, work.row, OFF_HOST)
    drawing = _Drawing(events=trace.events, work=work, parts=parts, main=main, draft=draft, nodes=nodes)
    last = drawing.draw_host(main_instants)
    drawing.draw_streams(has_events=on_device is not None)
    return draft.graph(trace.events, last, work.behind_ns)


def _main_thread(trace: KinetoTrace) -> int:
    """The thread that trains, else the one with the most calls."""
    if trace.main_thread is not None:
        return trace.main_thread
    calls = trace.events.in_categories(*LAUNCH_CATEGORIES)
    return int(np.bincount(trace.events.thread[calls]).argmax()) if calls.any() else NONE


def _device_activities(trace: KinetoTrace) -> Activities | None:
    return trace.activities if trace.activities is not None and trace.activities.device == "cuda" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """A step that is being drawn; `nodes` are those of its `work`."""

    events: Events
    work: Work
    parts: Pieces
    main: int
    draft: Draft
    nodes: Int64s

    def draw_host(self, main_instants: Int64s) -> int:
        """Draws the main thread and those that work for it; returns the node that ends the step."""
        begin_ns, end_ns = main_instants[[0, -1]].tolist()
        if self.main == NONE:  # a trace without a host: why its step lasted so long is not known
            return int(self.draft.add(end_ns, end_ns, NONE, OFF_HOST)[0])
        calls = self.parts.of(self.main, begin_ns, end_ns)
        found = [
            handoff for thread in self._helpers() for handoff in handoffs(self.events, thread, main_instants, calls)
        ]
        of_main = self._draw_main(begin_ns, end_ns, joins(found))
        self._meet(of_main)
        last_of: dict[int, int] = {}
        for handoff in found:
            last_of[handoff.thread] = self._draw_helper(handoff, of_main, last_of.get(handoff.thread, START))
        return of_main.last

    def draw_streams(self, *, has_events: bool) -> None:
        """Draws what waits for other work off the host: in its stream and, where streams have events, on others."""
        follows = np.flatnonzero(self.work.previous != NONE)
        self.draft.link(self.nodes[self.work.previous[follows]], self.nodes[follows], self.work.stream_delay_ns)
        if has_events:
            awaited, waiting = awaited_on_other_streams(self.events, self.work)
            self.draft.link(self.nodes[awaited], self.nodes[waiting], self.work.stream_delay_ns)

    def _helpers(self) -> list[int]:
        """The other threads that do something for the training: with operators or calls, but none that transfers."""
        operating = np.unique(self.events.thread[self.events.in_categories("cpu_op")]).tolist()
        return sorted({*operating, *self.parts.thread.tolist()} - {self.main, *self.work.stream.tolist()})

    def _draw_main(self, begin_ns: int, end_ns: int, waits: Intervals) -> Stretch:
        at_joins = pieces(NONE, self.main, waits[:, 0], waits[:, 1], waits[:, 1], NONE)
        parts = together([self.parts, at_joins]).of(self.main, begin_ns, end_ns)
        return add_stretch(self.draft, self.main, begin_ns, end_ns, parts, START)

    def _draw_helper(self, handoff: Handoff, of_main: Stretch, before: int) -> int:
        """Draws work of another thread, which comes after the node `before`; returns its last node."""
        span = handoff.begin_ns, handoff.end_ns
        stretch = add_stretch(self.draft, handoff.thread, *span, self.parts.of(handoff.thread, *span), before)
        self._meet(stretch)
        if handoff.is_awaited:
            at = np.array([handoff.begin_ns])
            self.draft.link(of_main.arrived(at), stretch.first)
            self.draft.link(stretch.last, of_main.holding(at), is_wait=True)
        return stretch.last

    def _meet(self, stretch: Stretch) -> None:
        """Links a thread's time with the work off the host that it launched and waited for."""
        if not len(stretch.pieces):
            return
        work, nodes = self.work, self.nodes
        in_time = (work.launched_ns >= stretch.pieces.begin_ns[0]) & (work.launched_ns < stretch.end_ns)
        launched = np.flatnonzero((work.call_thread == stretch.thread) & in_time)
        self.draft.link(stretch.arrived(work.launched_ns[launched]), nodes[launched], work.launch_delay_ns)
        waiting = np.flatnonzero(stretch.pieces.awaited != NONE)
        self.draft.link(nodes[stretch.pieces.awaited[waiting]], stretch.piece[waiting], is_wait=True)
        calls = np.flatnonzero(stretch.pieces.row != NONE)
        activity, call = awaited_on_each_stream(self.events, stretch.pieces.row[calls], work)
        self.draft.link(nodes[activity], stretch.piece[calls[call]], is_wait=True)
