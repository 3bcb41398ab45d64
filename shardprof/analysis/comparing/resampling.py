"""How sure a figure over steps is: bootstrap intervals, the same ones on every machine.

What is drawn again are whole runs and, within each, whole steps with the values of all their ranks: ranks wait for
each other, so that their times of one step tell little more than one of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardprof.analysis.comparing.comparison import Interval

_DRAWS = 2_000
_TAIL = 0.025
_LEAST_STEPS = 2

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats, Floats], float]
"""Of ascending values and how often each was drawn."""


def median_low(values: Floats, weights: Floats) -> float:
    """The lower median: a value that was measured."""
    reached = np.cumsum(weights)
    return float(values[int(np.searchsorted(2 * reached, reached[-1]))])


def mean(values: Floats, weights: Floats) -> float:
    """The arithmetic mean."""
    return float(values @ weights / weights.sum())


@dataclass(frozen=True, slots=True)
class Sample:
    """Values by run, by step, by rank."""

    runs: Sequence[Sequence[Sequence[float]]]

    def figure(self, statistic: Statistic) -> float | None:
        """The statistic of all values; None where there are none."""
        values, _ = self._flat()
        return statistic(values, np.ones(len(values))) if len(values) else None

    def drawn(self, statistic: Statistic, seed: int) -> Floats | None:
        """The statistic of each draw; None where the steps are too few to draw from."""
        if sum(map(len, self.runs)) < _LEAST_STEPS:
            return None
        values, step_of = self._flat()
        chance = random.Random(seed)  # promises the same numbers in every version, NumPy's generators do not
        steps = sum(map(len, self.runs))
        draws = [np.bincount(self._draw(chance), minlength=steps)[step_of] for _ in range(_DRAWS)]
        return np.array([statistic(values, weights.astype(np.float64)) for weights in draws])

    def _flat(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """All values, ascending, and which step each is of."""
        steps = [step for run in self.runs for step in run]
        values = np.array([value for step in steps for value in step], dtype=np.float64)
        step_of = np.repeat(np.arange(len(steps)), [len(step) for step in steps])
        order = np.argsort(values, kind="stable")
        return values[order], step_of[order]

    def _draw(self, chance: random.Random) -> list[int]:
        """Which steps are drawn: as many runs as there are, of each as many steps as it has."""
        ends = np.cumsum([len(run) for run in self.runs]).tolist()
        spans = [range(end - len(run), end) for end, run in zip(ends, self.runs, strict=True) if run]
        return [step for run in chance.choices(spans, k=len(spans)) for step in chance.choices(run, k=len(run))]


def interval(sample: Sample, statistic: Statistic) -> Interval | None:
    """Where the statistic lies with 95 % confidence; None where one step is all there is."""
    drawn = sample.drawn(statistic, seed=0)
    return None if drawn is None else _middle(drawn)


def change_interval(before: Sample, after: Sample, statistic: Statistic) -> Interval | None:
    """Where the relative change of the statistic lies with 95 % confidence: 0.05 is 5 % more.

    None where a side has one step only, or can be nothing at all.
    """
    a, b = before.drawn(statistic, seed=0), after.drawn(statistic, seed=1)
    return None if a is None or b is None or (a <= 0).any() else _middle(b / a - 1)


def _middle(drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, (_TAIL, 1 - _TAIL)).tolist()
    return Interval(low=low, high=high)
