"""Which trials did not finish, and how often each configuration fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.reading import base_figure
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Failure, Robustness
from shardprof.study.results import FINISHED


def failures(study: Study) -> tuple[Failure, ...]:
    """Every trial that did not finish; repeats that ended alike together."""
    return tuple(failure for cell in study.cells for failure in _failures_of(cell))


def _failures_of(cell: CellTrials) -> list[Failure]:
    ended: dict[tuple[str, str], list[int]] = defaultdict(list)
    for trial in cell.trials:
        if trial.status != FINISHED:
            ended[trial.status, trial.reason].append(trial.repeat)
    return [
        Failure(name=cell.name, situation=cell.situation, repeats=tuple(repeats), status=status, reason=reason)
        for (status, reason), repeats in ended.items()
    ]


def robustness(study: Study) -> tuple[Robustness, ...]:
    """Of each configuration, those that failed most first."""
    by_name: dict[str, list[CellTrials]] = defaultdict(list)
    for cell in study.cells:
        by_name[cell.name].append(cell)
    found = [_robustness(name, cells) for name, cells in by_name.items()]
    return tuple(sorted(found, key=lambda row: (row.finished / row.trials, row.name)))


def _robustness(name: str, cells: Sequence[CellTrials]) -> Robustness:
    rates = [rate for cell in cells for rate in cell.values(lambda t: base_figure(t, "error_rate")).values()]
    trials = [trial for cell in cells for trial in cell.trials]
    return Robustness(
        name=name,
        trials=len(trials),
        finished=sum(trial.status == FINISHED for trial in trials),
        errors_per_hour=fmean(rates) if rates else None,
    )
