"""What a rank was given to do, in the order in which it was given: kernels and copies or, on CPUs, operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, UInt32s
from shardprof.trace.cpu_activities import is_operator
from shardprof.trace.events import Events
from shardprof.trace.launches import launches_of

_MOST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A row a piece of work. `name` is an index into the events' names, `begin_ns` and `end_ns` are of the call that
    gave it: a launch, or the operator itself. Ends never fall."""

    name: UInt32s
    begin_ns: Int64s
    end_ns: Int64s

    def __len__(self) -> int:
        return len(self.name)


def work_in_order(events: Events, main_thread: int | None) -> Work:
    """Kernels and copies in the order of their launches; in a trace without any, the main thread's operators.

    What has no launch in the trace was launched before it and is left out, unless the trace holds hardly any launches:
    then all counts as given when it begins to run.
    """
    rows = np.flatnonzero(events.in_categories("kernel", "gpu_memcpy"))
    if not len(rows):
        outer = outer_operators(events, main_thread)
        return _work(events, outer, outer)
    calls = launches_of(events, rows)
    known = calls >= 0
    if known.mean() < _MOST:
        return _work(events, rows, rows)
    return _work(events, rows[known], calls[known])


def _work(events: Events, rows: Int64s, calls: Int64s) -> Work:
    order = np.lexsort((events.begin_ns[rows], events.begin_ns[calls]))  # a graph launches many kernels at once
    calls = calls[order]
    return Work(
        name=events.name[rows[order]],
        begin_ns=events.begin_ns[calls],
        end_ns=np.maximum.accumulate(events.end_ns[calls]),
    )


def outer_operators(events: Events, main_thread: int | None) -> Int64s:
    """The rows of operators that are inside no other, in order: what those do inside is no work of its own."""
    operators = events.in_categories("cpu_op") & events.named(is_operator)
    rows = np.flatnonzero(operators & (events.thread == main_thread))
    rows = rows[np.lexsort((-events.end_ns[rows], events.begin_ns[rows]))]
    ends = np.maximum.accumulate(events.end_ns[rows])
    outer = np.ones(len(rows), dtype=np.bool_)
    outer[1:] = events.begin_ns[rows[1:]] >= ends[:-1]
    return rows[outer]
