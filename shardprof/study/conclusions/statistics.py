"""How sure figures of repeated trials are: intervals of 95 %, and ratios of cells whose trials ran side by side.

A repeat of a study is a block: one trial of each cell, in random order. What slows the machine for a while slows a
whole block, so cells are compared by the ratios within blocks. Means and Student's t intervals are of logarithms, since
what is asked of times and sizes is their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, stdev
from typing import TypeVar

from shardprof.study.conclusions.study_report import COUNTED, NOTHING, REPEATS, Estimate

Block = TypeVar("Block")
_CONFIDENCE = 0.95
_BISECTIONS = 60


@cache
def student_quantile(freedom: int) -> float:
    """The t that a Student variable of so many degrees of freedom stays within, both ways, in 95 of 100 cases.

    Its distribution has a closed form for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < _CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """The probability that |t| is at most sqrt(freedom) times the angle's tangent."""
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for power in range(2 + freedom % 2, freedom + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    return 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total


def repeated(values: Sequence[float]) -> Estimate | None:
    """The geometric mean of values of one cell, a value a repeat; None where there are none, or one is not positive."""
    if not values or min(values) <= 0:
        return None
    logarithms = [math.log(value) for value in values]
    middle, count = fmean(logarithms), len(values)
    if count == 1:
        return Estimate(value=values[0], low=None, high=None, basis=NOTHING, count=1)
    reach = student_quantile(count - 1) * stdev(logarithms) / math.sqrt(count)
    low, high = math.exp(middle - reach), math.exp(middle + reach)
    return Estimate(value=math.exp(middle), low=low, high=high, basis=REPEATS, count=count)


def paired(a: Mapping[Block, float], b: Mapping[Block, float]) -> Estimate | None:
    """The ratio of `a` to `b` over the blocks that both have; None where there are none."""
    return repeated([a[block] / b[block] for block in a if block in b and b[block] > 0])


def differs(ratio: Estimate | None) -> bool:
    """Whether a ratio is not 1 by more than chance. One without an interval never is."""
    return ratio is not None and ratio.low is not None and ratio.high is not None and (ratio.low > 1 or ratio.high < 1)


def counted(estimate: Estimate | None) -> Estimate | None:
    """The estimate of something that is counted, not timed: one repeat tells it."""
    if estimate is None or estimate.count > 1:
        return estimate
    return replace(estimate, low=estimate.value, high=estimate.value, basis=COUNTED)


def times(estimate: Estimate, factor: float) -> Estimate:
    """The estimate of a figure that is so many times as large."""
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return Estimate(value=estimate.value * factor, low=low, high=high, basis=estimate.basis, count=estimate.count)


def by(factor: float, estimate: Estimate) -> Estimate:
    """The estimate of `factor` over the figure: what is fast is short."""
    low = None if estimate.high is None else factor / estimate.high
    high = None if estimate.low is None else factor / estimate.low
    return Estimate(value=factor / estimate.value, low=low, high=high, basis=estimate.basis, count=estimate.count)
