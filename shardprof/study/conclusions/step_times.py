"""How long the steps of a cell are, and how its steps compare with another cell's.

With three repeats or more by their medians, block by block; with fewer the steps themselves are drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from shardprof.analysis.comparing.resampling import Floats, Sample
from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.reading import step_ns
from shardprof.study.conclusions.statistics import paired, repeated
from shardprof.study.conclusions.study_report import NOTHING, STEPS, Estimate
from shardprof.study.results import Trial

LEAST_REPEATS = 3
_MOST_STEPS = 200
_TAILS = (0.025, 0.975)


def median(values: Floats, weights: Floats) -> float:
    """The median of ascending values, each drawn so often."""
    reached = 2 * np.cumsum(weights)
    ends = np.searchsorted(reached, reached[-1] / 2), np.searchsorted(reached, reached[-1] / 2, side="right")
    return float(values[list(ends)].mean())


class StepTimes:
    """Of one cell; `seed` keeps what is drawn for it apart from what is drawn for others."""

    def __init__(self, cell: CellTrials, seed: int) -> None:
        self._medians = cell.values(step_ns)
        self._sample = Sample([_some_steps(trial) for trial in cell.finished.values()])
        self._seed = seed

    @cached_property
    def estimate(self) -> Estimate | None:
        """The step time in nanoseconds; None where no trial tells it."""
        if len(self._medians) >= LEAST_REPEATS:
            return repeated(list(self._medians.values()))
        if self._pooled is None:
            return repeated(list(self._medians.values())[:1])
        return _drawn(self._pooled, self._draws, len(self._sample.runs))

    def ratio_to(self, other: StepTimes) -> Estimate | None:
        """This step time over another cell's; None where one of them is not known."""
        if len(self._medians.keys() & other._medians.keys()) >= LEAST_REPEATS:
            return paired(self._medians, other._medians)
        if self.estimate is None or other.estimate is None:
            return None
        count = min(len(self._sample.runs), len(other._sample.runs))
        if self._pooled is None or other._pooled is None:
            return _drawn(self.estimate.value / other.estimate.value, None, count)
        draws = None if self._draws is None or other._draws is None else self._draws / other._draws
        return _drawn(self._pooled / other._pooled, draws, count)

    @cached_property
    def _pooled(self) -> float | None:
        """The median of the steps of all repeats."""
        return self._sample.figure(median)

    @cached_property
    def _draws(self) -> Floats | None:
        return self._sample.drawn(median, self._seed)


def _drawn(value: float, draws: Floats | None, count: int) -> Estimate:
    if draws is None:
        return Estimate(value=value, low=None, high=None, basis=NOTHING, count=count)
    low, high = np.quantile(draws, _TAILS).tolist()
    return Estimate(value=value, low=low, high=high, basis=STEPS, count=count)


def _some_steps(trial: Trial) -> Sequence[Sequence[float]]:
    """The steps that count, of very many some by lot: more take long to draw from."""
    times = [[float(step.wall_ns)] for step in trial.measurement.steps if step.counts]
    return random.Random(0).sample(times, min(len(times), _MOST_STEPS))
