"""What a metric's function gives: values by part, each a number or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from shardprof.study.metrics.evidence import Evidence, MissingError

Value: TypeAlias = "float | str"
Values: TypeAlias = Mapping[str, Value]
"""By part; "" is the only or the whole one."""
Measure: TypeAlias = Callable[[Evidence], Values]

MS = 1e6
GIB = 2**30
NO_GPU = "no GPU"


def or_missing(value: float | None, reason: str) -> Value:
    """The value, or why there is none."""
    return reason if value is None else value


def most(values: Sequence[float], reason: str) -> float:
    """The largest of them. Raises MissingError where there are none."""
    if not values:
        raise MissingError(reason)
    return max(values)


def needs_gpu(measure: Measure) -> Measure:
    """The same of jobs on GPUs only."""

    def of_gpus(evidence: Evidence) -> Values:
        if not evidence.on_gpu:
            raise MissingError(NO_GPU)
        return measure(evidence)

    return of_gpus
