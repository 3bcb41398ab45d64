"""What a study's report is made of, for all outputs: sections of lines, tables and charts, the most important first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardprof.render._tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A figure with its interval, None where that is not known; `text` is what is written beside it."""

    label: str
    family: str
    value: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Figures as bars with error bars, from zero."""

    title: str
    unit: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """Times by group of classes, stacked: a row a cell."""

    title: str
    unit: str
    rows: tuple[tuple[str, Mapping[str, float]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series of points: x, y and the interval of y. `style` tells lines of one family apart."""

    label: str
    family: str
    style: int
    points: tuple[tuple[float, float, float | None, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Series over a common axis; `ticks` are the values to write at a logarithmic one, with their words."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    log_x: bool = False
    log_y: bool = False


Chart = Bars | Stacks | Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report; `detail` marks what a reader may want to fold away. A terminal shows the first
    `most_lines` lines. `legend` says what columns mean, by their names."""

    title: str
    lines: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    notes: tuple[str, ...] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    detail: bool = False
    most_lines: int = 100

    def __bool__(self) -> bool:
        return bool(self.lines or self.charts or self.tables)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and the legend of those columns that are there."""
        there = {column for _, table in self.tables for column in table.columns}
        return (*self.notes, *(f"{column}: {means}" for column, means in self.legend.items() if column in there))
