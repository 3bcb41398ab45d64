"""A step as a graph of what waited for what, and the length of the step if its nodes took other times."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shardprof.engine import Int64s, Intervals, covered_ns, merge
from shardprof.trace.events import Events, Mask

OFF_HOST = -1
"""The `thread` of nodes that no host thread works on: what GPUs do, and gloo's transfers."""

_NEVER_NS = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGraph:
    """The nodes of one step in an order in which each comes after all it waits for. Times are nanoseconds.

    `row` is a node's event, -1 for a thread's time between events; `thread` where it ran. A node begins when for each
    of its edges (those of node i are `first_edge[i]` to `first_edge[i + 1]`) the node `source` has ended and
    `delay_ns` has passed, and then `lag_ns` later: the delay that no edge explains. `is_wait` marks the edges on which
    a host thread stands still until something ends. The step ends with the node `last`.

    `behind_ns` is for how long after the step's end devices still worked on what was launched before it. Where that
    grows from step to step, the host ran ahead of them, and the step's length does not tell what their work costs.
    """

    events: Events
    row: Int64s
    thread: Int64s
    begin_ns: Int64s
    duration_ns: Int64s
    lag_ns: Int64s
    first_edge: Int64s
    source: Int64s
    delay_ns: Int64s
    is_wait: Mask
    last: int
    behind_ns: int

    def until_devices(self) -> StepGraph:
        """The same step, over when the last of what devices did in it has ended: where the host runs ahead of them,
        that is what a step's length is made of in the long run."""
        ends_ns = np.where(self.thread == OFF_HOST, self.begin_ns + self.duration_ns, _NEVER_NS)
        return replace(self, last=int(ends_ns.argmax()))

    def replayed_ns(self, duration_ns: Int64s | None = None) -> int:
        """The step's length if its nodes took these times, one a node; None: as recorded, which gives the recorded
        length to the nanosecond."""
        return self._length_ns(self.duration_ns if duration_ns is None else duration_ns, self.lag_ns, self.delay_ns)

    def without_lags_ns(self) -> int:
        """The step's length by its edges alone. How far it is from the recorded one is the error of the model."""
        return self._length_ns(self.duration_ns, np.zeros_like(self.lag_ns), self.delay_ns)

    def without(self, rows: Int64s) -> int:
        """The step's length if the events `rows` took no time.

        A range or call of a host thread takes all that it covers there with it, and waits inside it wait for nothing;
        what it launched still runs. All else keeps its order and the delays that nothing explains.
        """
        duration_ns = self.duration_ns.copy()
        by_row = np.isin(self.row, rows) & (self.thread == OFF_HOST)
        duration_ns[by_row] = 0
        of_host = np.setdiff1d(rows, self.row[by_row])
        passed = np.zeros(len(self.row), dtype=np.bool_)
        for thread in np.unique(self.events.thread[of_host]).tolist():
            taken = merge(self.events.intervals(of_host[self.events.thread[of_host] == thread]))
            nodes = np.flatnonzero(self.thread == thread)
            spans = np.stack((self.begin_ns[nodes], self.begin_ns[nodes] + self.duration_ns[nodes]), axis=1)
            duration_ns[nodes] -= covered_ns(taken, spans)
            passed[nodes] = _inside(spans, taken)
        unawaited = self.is_wait & np.repeat(passed, np.diff(self.first_edge))
        delay_ns = np.where(unawaited, _NEVER_NS, self.delay_ns)
        return self._length_ns(duration_ns, np.where(passed, 0, self.lag_ns), delay_ns)

    def critical_rows(self) -> Int64s:
        """The events on the critical path, in order of time: had any of them been longer, so had the step."""
        rows = self.row[self._critical_nodes()]
        return rows[rows >= 0]

    @property
    def explained(self) -> float:
        """The share of the critical path, from 0 to 1, that is work and known delays rather than lag."""
        path = self._critical_nodes()
        length_ns = int(self.begin_ns[self.last] + self.duration_ns[self.last] - self.begin_ns[0])
        return max(0.0, 1 - int(self.lag_ns[path].sum()) / length_ns) if length_ns else 1.0

    def _length_ns(self, duration_ns: Int64s, lag_ns: Int64s, delay_ns: Int64s) -> int:
        """The longest path. A plain loop: each node needs the ones before it."""
        edges = list(zip(self.source.tolist(), delay_ns.tolist(), strict=True))
        own_ns = (duration_ns + lag_ns).tolist()
        bounds = self.first_edge.tolist()
        ends_ns = own_ns[:1]
        for node in range(1, self.last + 1):
            ready_ns = max([ends_ns[source] + delay for source, delay in edges[bounds[node] : bounds[node + 1]]])
            ends_ns.append(ready_ns + own_ns[node])
        return int(ends_ns[self.last])

    def _critical_nodes(self) -> Int64s:
        """From the step's begin to its end, each the one that the next waited for last."""
        ready_ns = (self.begin_ns + self.duration_ns)[self.source] + self.delay_ns
        path = [self.last]
        while path[-1]:
            edges = slice(*self.first_edge[path[-1] : path[-1] + 2].tolist())
            path.append(int(self.source[edges][ready_ns[edges].argmax()]))
        return np.array(path[::-1], dtype=np.int64)


def _inside(spans: Intervals, merged: Intervals) -> Mask:
    """Which spans lie in a merged set; one without length that lies at the begin of an interval does not."""
    position = np.searchsorted(merged[:, 0], spans[:, 1]) - 1
    inside = position >= 0
    inside[inside] = (spans[inside, 0] >= merged[position[inside], 0]) & (
        spans[inside, 1] <= merged[position[inside], 1]
    )
    return inside
