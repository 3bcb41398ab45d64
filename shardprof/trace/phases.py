"""Which phase of a training step its host was in: told by autograd's ranges and the optimizer's, whatever framework."""

from __future__ import annotations

import numpy as np

from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.events import Events, Mask
from shardprof.trace.steps import OPTIMIZER_STEP

PHASES = ("forward", "backward", "optimizer")
FORWARD, BACKWARD, OPTIMIZER = range(len(PHASES))

_NODE = "autograd::engine::evaluate_function"
_FEWEST_OPERATORS_OF_A_FORWARD = 4


def phases_at(events: Events, steps: Intervals, times_ns: Int64s) -> Int64s:
    """The phase of each time, an index into PHASES; `steps` are the windows of the steps that the times lie in.

    Backward lasts from an autograd node to the next unless a forward's operators run between them. What comes after
    the optimizer's begin is the optimizer's until the step ends, or until the forward of another backward.
    """
    backward, optimizer = _backward(events), _optimizer(events)
    inside = holding(backward, times_ns) >= 0
    began = np.searchsorted(optimizer[:, 0], times_ns, side="right") - 1
    is_optimizer = (began >= 0) & ~inside
    if is_optimizer.any():
        of = began[is_optimizer]
        is_optimizer[is_optimizer] = ~_backward_follows(
            backward, optimizer[of], times_ns[is_optimizer], _step_of(steps, times_ns[is_optimizer])
        )
    return np.select([inside, is_optimizer], [BACKWARD, OPTIMIZER], FORWARD)


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


def _backward_follows(backward: Intervals, optimizer: Intervals, times_ns: Int64s, step: Intervals) -> Mask:
    """Whether another backward lies between the optimizer and the time, or comes after it in the same step, when the
    optimizer is over; or the step is another one."""
    since = np.searchsorted(backward[:, 0], times_ns) - np.searchsorted(backward[:, 0], optimizer[:, 0])
    later = np.searchsorted(backward[:, 0], step[:, 1]) - np.searchsorted(backward[:, 0], times_ns)
    is_over = times_ns >= optimizer[:, 1]
    follows: Mask = (since > 0) | (is_over & (later > 0)) | (optimizer[:, 0] < step[:, 0])
    return follows


def _step_of(steps: Intervals, times_ns: Int64s) -> Intervals:
    """The window that each time lies in; one of its own where it lies in none."""
    of = holding(steps, times_ns)
    alone = np.stack((times_ns, times_ns), axis=1)
    return np.where((of >= 0)[:, None], steps[of], alone)
