"""Which windows a rank captures, in which order: those of the plan, and those that are asked for while it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.trace.schema import CapturePlan

WARMUP_STEPS = 2


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """Steps `first_step` .. `end_step - 1`, after a warm-up of the profiler that begins with `prepare_step`."""

    first_step: int
    end_step: int
    prepare_step: int

    def __str__(self) -> str:
        return f"the captured steps {self.first_step}-{self.end_step - 1}"


class Schedule:
    """The windows to come. None overlaps another: one that would is left out."""

    def __init__(self, plan: CapturePlan) -> None:
        self._planned = _windows(plan)
        self._next_planned = next(self._planned, None)
        self._asked_for: PlannedWindow | None = None

    @property
    def next(self) -> PlannedWindow | None:
        """The window that comes next, or is open."""
        planned, asked_for = self._next_planned, self._asked_for
        if planned is None or asked_for is None:
            return planned or asked_for
        return min(planned, asked_for, key=lambda window: window.first_step)

    def ask(self, first_step: int, steps: int, now: int) -> bool:
        """Somebody wants these steps too; False where `now` is too late for it, or they overlap the next window."""
        window = PlannedWindow(first_step, first_step + steps, max(first_step - WARMUP_STEPS, now + 1))
        following = self.next
        overlaps = following and window.first_step < following.end_step and following.prepare_step < window.end_step
        if first_step <= now or overlaps:
            return False
        self._asked_for = window
        return True

    def leave(self, window: PlannedWindow, step: int) -> None:
        """`window` is over in `step`, or is given up; so are those that were to begin before `step`."""
        if self._asked_for is window:
            self._asked_for = None
        while self._next_planned and (self._next_planned is window or self._next_planned.first_step < step):
            self._next_planned = next(self._planned, None)


def _windows(plan: CapturePlan) -> Iterator[PlannedWindow]:
    """The cycle of passing, warming up and capturing, again and again from where the last one ended."""
    for cycle in itertools.islice(itertools.count(), plan.repeat):
        first_step = plan.first_step + cycle * (plan.first_step + plan.steps)
        yield PlannedWindow(first_step, first_step + plan.steps, first_step - plan.warmup_steps)


def first_free_step(plan: CapturePlan, earliest: int, steps: int) -> int:
    """The first step, `earliest` or later, from which on `steps` steps are free of the plan's own windows."""
    for window in _windows(plan):
        if earliest + steps <= window.prepare_step:
            break
        if earliest - WARMUP_STEPS < window.end_step:
            earliest = window.end_step + WARMUP_STEPS
    return earliest
