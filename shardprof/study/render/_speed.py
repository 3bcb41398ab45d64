"""The sections on speed: who is how fast, and what a step consists of."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.render._tables import SHORT_NAMES, Table
from shardprof.study.conclusions.groups import family
from shardprof.study.conclusions.mean_step import by_group
from shardprof.study.conclusions.phrases import percent, rate
from shardprof.study.conclusions.study_report import CellFigures, Ranking, StudyReport
from shardprof.study.render._section import Bar, Bars, Section, Stacks
from shardprof.study.render._tables import (
    MISSING,
    milliseconds,
    size_words,
    table,
    times_words,
    title_of,
    with_interval,
)

GROUPS = ("compute", "communication", "copies", "data_loading", "launch_bound", "idle")
"""The groups of classes in the order of their columns."""


def throughput(report: StudyReport) -> Section:
    """The ranking of each situation, with throughput and step time."""
    return Section(
        title="Throughput and step time",
        charts=tuple(_speed_bars(report, ranking) for ranking in report.rankings),
        tables=tuple(
            (title_of(report, ranking.situation), _ranking_table(report, ranking)) for ranking in report.rankings
        ),
        notes=("intervals of 95 % in brackets",),
        legend={
            "place": "cells that no interval tells from the first of a place share it, marked =",
            "to best": "step time by that of the fastest, trial by trial",
            "network": "what a node sends to others in a step; on a single node what a rank sends",
        },
    )


def _cells(report: StudyReport, ranking: Ranking) -> list[CellFigures]:
    """The cells of a ranking, in its order."""
    by_name = {cell.name: cell for cell in report.cells if cell.situation == ranking.situation}
    return [by_name[ranked.name] for ranked in ranking.ranked]


def _speed_bars(report: StudyReport, ranking: Ranking) -> Bars:
    bars = []
    for cell in _cells(report, ranking):
        speed = cell.samples_per_s
        assert speed is not None
        text = with_interval(speed, rate)
        made = Bar(
            label=cell.name, family=family(cell.strategy), value=speed.value, low=speed.low, high=speed.high, text=text
        )
        bars.append(made)
    at = title_of(report, ranking.situation)
    return Bars(title=f"Throughput, {at}" if at else "Throughput", unit="samples/s", bars=tuple(bars))


def _ranking_table(report: StudyReport, ranking: Ranking) -> Table:
    rows = [
        (
            f"{ranked.place}{'=' if ranked.tied else ''}",
            ranked.name,
            with_interval(ranked.step_ns, milliseconds),
            with_interval(cell.samples_per_s, rate),
            "1" if ranked.to_best is None else times_words(ranked.to_best),
            size_words(cell.memory_bytes.value if cell.memory_bytes else None),
            size_words(cell.network_bytes.value if cell.network_bytes else None),
        )
        for ranked, cell in zip(ranking.ranked, _cells(report, ranking), strict=True)
    ]
    columns = ("place", "configuration", "step (ms)", "samples/s", "to best", "memory", "network")
    return table(columns, rows, {"configuration"}, ("network", "memory", "samples/s"))


def composition(report: StudyReport) -> Section:
    """What the mean captured step of each cell went to."""
    charts, tables = [], []
    for ranking in report.rankings:
        cells = [cell for cell in _cells(report, ranking) if cell.mean_step]
        if cells:
            at = title_of(report, ranking.situation)
            rows = tuple((cell.name, by_group(cell.mean_step)) for cell in cells if cell.mean_step)
            charts.append(
                Stacks(title=f"The mean captured step, {at}" if at else "The mean captured step", unit="ms", rows=rows)
            )
            tables.append((at, _composition_table(cells)))
    return Section(
        title="What a step goes to",
        charts=tuple(charts),
        tables=tuple(tables),
        legend={
            "step": "the mean captured one, in ms: under the profiler, so longer than the steps above",
            "comm": "communication outside compute",
            "overlap": "the share of communication under compute",
            "data wait": "in the loader, in the steps that were not captured",
        },
    )


def _composition_table(cells: Sequence[CellFigures]) -> Table:
    groups = [
        group for group in GROUPS if any(cell.mean_step and by_group(cell.mean_step).get(group) for cell in cells)
    ]
    rows = []
    for cell in cells:
        step = cell.mean_step
        assert step is not None
        parts = by_group(step)
        overlapped = MISSING if step.overlapped_share is None else percent(step.overlapped_share)
        waited = MISSING if cell.data_wait_ns is None else milliseconds(cell.data_wait_ns)
        figures = (milliseconds(parts[group]) if group in parts else MISSING for group in groups)
        rows.append((cell.name, milliseconds(step.wall_ns), *figures, overlapped, waited))
    columns = ("configuration", "step", *(SHORT_NAMES[group] for group in groups), "overlap", "data wait")
    return table(columns, rows, {"configuration"}, ("data wait",))
