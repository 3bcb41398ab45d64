"""The figures of one finished training: a value, or the reason why there is none, for every metric of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from shardprof.study.bench.cells import Cell
from shardprof.study.bench.study_file import Length
from shardprof.study.metrics import captured, compute, counted, outcome, recorded
from shardprof.study.metrics.evidence import Evidence, MissingError, evidence_in
from shardprof.study.metrics.table import METRICS, Metric
from shardprof.study.metrics.values import Measure, Value
from shardprof.study.results import Figure, Measurement

MEASURES: Mapping[str, Measure] = {
    **recorded.MEASURES,
    **captured.MEASURES,
    **compute.MEASURES,
    **counted.MEASURES,
    **outcome.MEASURES,
}
"""How each metric is measured, by its name."""


def measure(folder: Path, cell: Cell, length: Length) -> Measurement:
    """What a trial's `folder` holds of a training of this cell: `run/`, recorded, and `training/`, told by itself.

    Where parts are missing or damaged, the figures that rest on them are None and say why.
    """
    evidence = evidence_in(folder, cell, length)
    return Measurement(
        figures=tuple(figure for metric in METRICS for figure in _figures(metric, evidence)),
        steps=evidence.steps,
        losses=evidence.learning.losses,
        accuracies=evidence.learning.accuracies,
        workload=evidence.learning.workload,
        report=evidence.report,
    )


def _figures(metric: Metric, evidence: Evidence) -> list[Figure]:
    try:
        values = MEASURES[metric.name](evidence)
    except MissingError as missing:
        values = {"": str(missing)}
    return [_figure(metric, part, value) for part, value in values.items()]


def _figure(metric: Metric, part: str, value: Value) -> Figure:
    unit = metric.unit_of(part)
    if isinstance(value, str) or not math.isfinite(value):
        missing = value if isinstance(value, str) else "it is no finite number"
        return Figure(name=metric.name, part=part, value=None, unit=unit, missing=missing)
    return Figure(name=metric.name, part=part, value=float(value), unit=unit)
