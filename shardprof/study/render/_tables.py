"""How figures of a study stand in tables, and which situations a table is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shardprof.render._tables import Table
from shardprof.study.conclusions.groups import varied_axes, words
from shardprof.study.conclusions.phrases import rate, ratio
from shardprof.study.conclusions.study_report import Estimate, Situation, StudyReport
from shardprof.words import size

MISSING = "-"
Written = Callable[[float], str]


def axes_of(report: StudyReport) -> tuple[str, ...]:
    """The axes that tell the situations of a study apart."""
    return varied_axes([cell.situation for cell in report.cells])


def situations_of(report: StudyReport) -> tuple[Situation, ...]:
    """In order."""
    return tuple(dict.fromkeys(cell.situation for cell in report.cells))


def title_of(report: StudyReport, situation: Situation) -> str:
    """What tells a situation from the others of the study; "" where there is one only."""
    return words(situation, axes_of(report))


def with_interval(estimate: Estimate | None, written: Written) -> str:
    """A figure and its interval: "12.3 (11.9 to 12.7)"."""
    if estimate is None:
        return MISSING
    if estimate.low is None or estimate.high is None or written(estimate.low) == written(estimate.high):
        return written(estimate.value)
    value, low, high = (written(figure) for figure in (estimate.value, estimate.low, estimate.high))
    unit = " " + value.partition(" ")[2]
    return f"{value} ({low.removesuffix(unit)} to {high.removesuffix(unit)})"


def times_words(estimate: Estimate | None) -> str:
    """A ratio and its interval."""
    return with_interval(estimate, ratio)


def size_words(size_bytes: float | None) -> str:
    """A size; a dash where it was not measured."""
    return MISSING if size_bytes is None else size(size_bytes)


def ratio_words(value: float | None) -> str:
    """A ratio; a dash where it was not measured."""
    return MISSING if value is None else ratio(value)


def milliseconds(time_ns: float) -> str:
    """A time in milliseconds, without the unit: three digits."""
    return rate(time_ns / 1e6)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Iterable[str] = (),
    spare: Iterable[str] = (),
) -> Table:
    """A table without the columns of which nothing is known."""
    rows = [tuple(row) for row in rows]
    told = [i for i in range(len(columns)) if not i or not rows or any(row[i] not in (MISSING, "") for row in rows)]
    kept = tuple(columns[i] for i in told)
    return Table(
        columns=kept,
        rows=tuple(tuple(row[i] for i in told) for row in rows),
        words=frozenset(words),
        spare=tuple(column for column in spare if column in kept),
    )
