"""Which phase of a training step its host was in: told by autograd's ranges and the optimizer's, whatever framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.events import Events
from shardprof.trace.steps import OPTIMIZER_STEP

PHASES = ("forward", "backward", "optimizer")
FORWARD, BACKWARD, OPTIMIZER = range(len(PHASES))

_NODE = "autograd::engine::evaluate_function"
_FEWEST_OPERATORS_OF_A_FORWARD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """The backwards and optimizer ranges of a trace, and the windows of its steps.

    Backward lasts from an autograd node to the next unless a forward's operators run between them, and on to the
    optimizer if no other backward comes before it. The optimizer's phase lasts from its begin until the step ends, or
    until the forward of another backward.
    """

    steps: Intervals
    backward: Intervals
    optimizer: Intervals

    def at(self, times_ns: Int64s) -> Int64s:
        """The phase of each time, an index into PHASES."""
        step = _step_of(self.steps, times_ns)
        of_backward, of_optimizer = (_last(spans, times_ns, step) for spans in (self.backward, self.optimizer))
        is_inside = holding(self.backward, times_ns) >= 0
        # What began last, and whether another backward follows in the step, before the next optimizer if there is one.
        next_ns, until_ns = _next(self.backward, times_ns, step), _next(self.optimizer, times_ns, step)
        another = next_ns < until_ns
        last_began = np.where(of_backward[:, 0] >= of_optimizer[:, 0], BACKWARD, OPTIMIZER)
        in_optimizer = (last_began == OPTIMIZER) & ((times_ns < of_optimizer[:, 1]) | ~another)
        none_yet = np.maximum(of_backward[:, 0], of_optimizer[:, 0]) < 0
        in_forward = none_yet | (another & ~in_optimizer)
        return np.select([is_inside, in_forward], [BACKWARD, FORWARD], last_began)


def phases_of(events: Events, steps: Intervals) -> Phases:
    """The phases of a trace's steps, whose windows are in order."""
    return Phases(steps=steps, backward=_backward(events), optimizer=_optimizer(events))


def _backward(events: Events) -> Intervals:
    nodes = events.named(lambda name: name.startswith(_NODE))
    merged = merge(events.intervals(nodes))
    if len(merged) < 2:
        return merged
    begins_ns = np.sort(events.begin_ns[events.in_categories("cpu_op") & ~nodes])
    between = np.searchsorted(begins_ns, merged[1:, 0]) - np.searchsorted(begins_ns, merged[:-1, 1])
    breaks = between >= _FEWEST_OPERATORS_OF_A_FORWARD
    firsts, lasts = np.concatenate(([True], breaks)), np.concatenate((breaks, [True]))
    return np.stack((merged[firsts, 0], merged[lasts, 1]), axis=1)


def _optimizer(events: Events) -> Intervals:
    rows = events.in_categories("user_annotation", "cpu_op") & events.named(OPTIMIZER_STEP.search)
    return merge(events.intervals(rows))


def _last(spans: Intervals, times_ns: Int64s, step: Intervals) -> Intervals:
    """The last of some spans to begin in the step before each time; -1 and -1 if none did."""
    position = np.searchsorted(spans[:, 0], times_ns, side="right") - 1
    found = position >= 0
    found[found] = spans[position[found], 0] >= step[found, 0]
    last = np.full((len(times_ns), 2), -1, dtype=np.int64)
    last[found] = spans[position[found]]
    return last


def _next(spans: Intervals, times_ns: Int64s, step: Intervals) -> Int64s:
    """When the next of some spans begins after each time; the step's end if none does in it."""
    begins_ns = np.concatenate((spans[:, 0], [np.iinfo(np.int64).max]))
    next_ns: Int64s = np.minimum(begins_ns[np.searchsorted(spans[:, 0], times_ns, side="right")], step[:, 1])
    return next_ns


def _step_of(steps: Intervals, times_ns: Int64s) -> Intervals:
    """The window that each time lies in; one of its own where it lies in none."""
    of = holding(steps, times_ns)
    alone = np.stack((times_ns, times_ns), axis=1)
    return np.where((of >= 0)[:, None], steps[of], alone)
