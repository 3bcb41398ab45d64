"""The sections on how speed goes with batch, ranks and fabric, where a study varies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from shardprof.render._tables import Table
from shardprof.study.conclusions.groups import axis_words, family, words
from shardprof.study.conclusions.phrases import bandwidth, between, rate, ratio
from shardprof.study.conclusions.study_report import CellFigures, Crossing, Situation, StudyReport
from shardprof.study.render._section import Chart, Line, Lines, Section
from shardprof.study.render._tables import (
    MISSING,
    axes_of,
    milliseconds,
    table,
    with_interval,
)

_PIVOTED = {"batch_size": "batch", "ranks": "ranks"}
_FABRIC = "fabric_bytes_per_s"
_MOST_CROSSINGS = 8


def against_axes(report: StudyReport) -> Section:
    """Throughput against batch and against ranks, where the study varies them."""
    charts: list[Chart] = []
    tables = []
    for axis, word in _PIVOTED.items():
        for at, cells in _series(report, axis):
            title = f"Throughput against {word}" + (f", {at}" if at else "")
            lines = _lines(cells, axis, by_time=False)
            charts.append(Lines(title=title, x=word, y="samples/s", lines=lines, ticks=_ticks(cells, axis), log_x=True))
            tables.append((f"samples/s against {word}" + (f", {at}" if at else ""), _pivot(cells, axis, by_time=False)))
    return Section(title="Throughput against batch and ranks", charts=tuple(charts), tables=tuple(tables))


def by_fabric(report: StudyReport) -> Section:
    """Step time against the bandwidth between nodes, and where cells change places."""
    charts, tables = [], []
    for at, cells in _series(report, _FABRIC):
        title = "Step time against bandwidth" + (f", {at}" if at else "")
        ticks = _ticks(cells, _FABRIC)
        lines = _lines(cells, _FABRIC, by_time=True)
        charts.append(
            Lines(
                title=title,
                x="bandwidth between nodes",
                y="step (ms)",
                lines=lines,
                ticks=ticks,
                log_x=True,
                log_y=True,
            )
        )
        tables.append(("step (ms)" + (f", {at}" if at else ""), _pivot(cells, _FABRIC, by_time=True)))
    return Section(
        title="By fabric",
        lines=tuple(_crossing_words(crossing) for crossing in report.crossings),
        charts=tuple(charts),
        tables=tuple(tables),
        most_lines=_MOST_CROSSINGS,
    )


def _crossing_words(crossing: Crossing) -> str:
    slow, fast = crossing.slow_ratio, crossing.fast_ratio
    return (
        f"Below about {bandwidth(crossing.near_bytes_per_s)} {crossing.on_slow} is faster than {crossing.on_fast}, "
        f"above slower: {ratio(slow.value)}{between(slow)} times the step at {bandwidth(crossing.slow_bytes_per_s)}, "
        f"{ratio(fast.value)}{between(fast)} at {bandwidth(crossing.fast_bytes_per_s)}"
    )


def _series(report: StudyReport, axis: str) -> Iterator[tuple[str, list[CellFigures]]]:
    """The timed cells that differ on one axis (and in strategy and knobs), with what else tells them apart."""
    groups: dict[Situation, list[CellFigures]] = {}
    for cell in report.cells:
        if cell.step_ns and (axis != _FABRIC or cell.situation.fabric_bytes_per_s):
            without_axis: dict[str, Any] = {axis: 0}
            fixed = replace(cell.situation, **without_axis)
            groups.setdefault(fixed, []).append(cell)
    others = [other for other in axes_of(report) if other != axis]
    for fixed, cells in groups.items():
        if len({getattr(cell.situation, axis) for cell in cells}) > 1:
            yield words(fixed, others), cells


def _by_name(cells: Sequence[CellFigures]) -> dict[str, list[CellFigures]]:
    named: dict[str, list[CellFigures]] = {}
    for cell in cells:
        named.setdefault(cell.name, []).append(cell)
    return named


def _ticks(cells: Sequence[CellFigures], axis: str) -> tuple[tuple[float, str], ...]:
    at = {getattr(cell.situation, axis): cell.situation for cell in cells}
    return tuple((float(value), _tick_words(at[value], axis)) for value in sorted(at))


def _tick_words(situation: Situation, axis: str) -> str:
    return axis_words(situation, axis) if axis == _FABRIC else str(getattr(situation, axis))


def _lines(cells: Sequence[CellFigures], axis: str, *, by_time: bool) -> tuple[Line, ...]:
    made, styles = [], dict[str, int]()
    for name, own in _by_name(cells).items():
        of = family(own[0].strategy)
        points = []
        for cell in sorted(own, key=lambda cell: float(getattr(cell.situation, axis))):
            shown, factor = (cell.step_ns, 1e-6) if by_time else (cell.samples_per_s, 1.0)
            assert shown is not None
            low, high = (None if end is None else end * factor for end in (shown.low, shown.high))
            points.append((float(getattr(cell.situation, axis)), shown.value * factor, low, high))
        made.append(Line(label=name, family=of, style=styles.get(of, 0), points=tuple(points)))
        styles[of] = styles.get(of, 0) + 1
    return tuple(made)


def _pivot(cells: Sequence[CellFigures], axis: str, *, by_time: bool) -> Table:
    ticks = _ticks(cells, axis)
    rows = []
    for name, own in _by_name(cells).items():
        at = {float(getattr(cell.situation, axis)): cell for cell in own}
        shown = [at.get(value) for value, _ in ticks]
        texts = (
            MISSING if cell is None
            else with_interval(cell.step_ns, milliseconds) if by_time
            else with_interval(cell.samples_per_s, rate)
            for cell in shown
        )  # fmt: skip
        rows.append((name, *texts))
    return table(("configuration", *(word for _, word in ticks)), rows, {"configuration"})
