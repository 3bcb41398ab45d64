"""Which of the steps that are always recorded the profiler left alone, so that their times are the training's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from shardprof.trace.schema import StepRecord


def undisturbed(records: Sequence[StepRecord]) -> list[StepRecord]:
    """Those in which shardprof's profiler was not there, nor in the step before: a step after a window begins with
    exporting its trace. The first two pay for starting up and for reading the settings."""
    pairs = pairwise(records)
    return [step for before, step in pairs if step.step > 1 and not (before.profiling or step.profiling)]
