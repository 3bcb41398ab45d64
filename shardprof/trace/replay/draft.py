"""A step's graph while it is drawn, in any order: nodes as recorded, and edges with the delay that is usual on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.events import Events, Mask
from shardprof.trace.replay.graph import OFF_HOST, StepGraph

START = 0
"""The node, without any length, from which the step begins."""


@dataclass
class Draft:
    """Blocks of nodes (begin, end, row, thread) and of edges (source, target, usual delay, whether a host waits)."""

    begin_ns: int
    _nodes: list[Int64s] = field(default_factory=list)
    _edges: list[Int64s] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.add(self.begin_ns, self.begin_ns, -1, OFF_HOST)

    def add(self, begin_ns: Int64s | int, end_ns: Int64s | int, row: Int64s | int, thread: int) -> Int64s:
        """New nodes; those of one thread in the order of time. Returns their numbers."""
        block = np.stack(np.broadcast_arrays(*np.atleast_1d(begin_ns, end_ns, row, thread))).astype(np.int64)
        self._nodes.append(block)
        self._count += block.shape[1]
        return np.arange(self._count - block.shape[1], self._count)

    def link(self, sources: Int64s | int, targets: Int64s | int, usual_ns: int = 0, *, is_wait: bool = False) -> None:
        """A target begins `usual_ns` after its source has ended, or as much earlier as it was recorded to."""
        block = np.stack(np.broadcast_arrays(*np.atleast_1d(sources, targets, usual_ns, is_wait))).astype(np.int64)
        self._edges.append(block)

    def graph(self, events: Events, last: int, behind_ns: int = 0) -> StepGraph:
        """The graph whose step ends with the node `last`. What no edge explains becomes lag."""
        nodes = np.concatenate(self._nodes, axis=1)
        order = np.lexsort((nodes[1], nodes[0]))
        begin_ns, end_ns, row, thread = nodes[:, order]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        source, target, delay_ns, is_wait = self._in_order(place)
        delay_ns = np.minimum(delay_ns, begin_ns[target] - end_ns[source])
        first_edge = np.searchsorted(target, np.arange(len(order) + 1))
        ready_ns = begin_ns.copy()
        ready_ns[1:] = np.maximum.reduceat(end_ns[source] + delay_ns, first_edge[1:-1]) if len(order) > 1 else 0
        return StepGraph(
            events=events,
            row=row,
            thread=thread,
            begin_ns=begin_ns,
            duration_ns=end_ns - begin_ns,
            lag_ns=begin_ns - ready_ns,
            first_edge=first_edge,
            source=source,
            delay_ns=delay_ns,
            is_wait=is_wait,
            last=int(place[last]),
            behind_ns=behind_ns,
        )

    def _in_order(self, place: Int64s) -> tuple[Int64s, Int64s, Int64s, Mask]:
        """The edges by their targets: none from what began after its target, as clocks that differ can make it look,
        and one from the start for each node that would have none, which makes all its delay lag."""
        edges = np.concatenate([np.empty((4, 0), dtype=np.int64), *self._edges], axis=1)
        source, target = place[edges[0]], place[edges[1]]
        kept = source < target
        alone = np.setdiff1d(np.arange(1, len(place)), target[kept])
        source = np.concatenate((source[kept], np.full_like(alone, START)))
        target = np.concatenate((target[kept], alone))
        delay_ns, is_wait = np.concatenate((edges[2:, kept], np.zeros((2, len(alone)), dtype=np.int64)), axis=1)
        order = np.argsort(target, kind="stable")
        return source[order], target[order], delay_ns[order], is_wait[order].astype(np.bool_)
