"""A chart together with the table of its figures: both from the same values, so that neither says more than the other.

Values are nanoseconds, bytes or what a unit says; the page's script divides them as the tables do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shardprof.render._palette import SYMBOLS, Look, line_look
from shardprof.render._tables import Table
from shardprof.render._text import cut
from shardprof.words import Scale, plural, printable

_LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart as the page's script draws it, and its table. `description` is for people who do not see it; `views`
    are what can be chosen to be drawn, `chooses` what they are; `notes` say what the chart leaves open."""

    title: str
    description: str
    chart: Mapping[str, Any]
    table: Table
    chooses: str = ""
    views: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bars of one colour, one for each label; None is no bar. They begin where the one before ends, or at
    `begins`, and tell their values, or their `words`."""

    name: str
    look: Look
    values: tuple[float | None, ...]
    begins: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Bars that are shown together: their labels, and the parts of which they are made."""

    labels: tuple[str, ...]
    parts: tuple[Part, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values at times, in seconds since the first one of the chart."""

    name: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a chart: its coordinates, and what it is in words."""

    kind: str
    x: float
    y: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What bars are of, and how they are drawn: their parts stacked, or (`mode` "group") side by side, or ("relative")
    to both sides of zero, or ("overlay") where they begin; their lengths from `start` on; upright or lying."""

    name: str
    scale: Scale
    mode: str = "stack"
    start: float = 0
    upright: bool = False


def bars(
    title: str,
    axis: Axis,
    views: Sequence[View],
    *,
    chooses: str = "",
    table: Table | None = None,
    notes: tuple[str, ...] = (),
) -> Figure:
    """Bars, one for each of what `axis` names."""
    shown = [replace(view, parts=tuple(part for part in view.parts if any(part.values))) for view in views]
    made_of = ", ".join(dict.fromkeys(part.name for view in shown for part in view.parts))
    return Figure(
        title=title,
        description=f"{title}: {made_of or 'nothing'}, by {axis.name}. Its table follows.",
        chart=_bars_chart(axis, shown),
        table=table or _bars_table(axis.name, axis.scale, shown, chooses),
        chooses=chooses,
        views=tuple(view.name for view in views) if len(views) > 1 else (),
        notes=notes,
    )


def _bars_chart(axis: Axis, views: Sequence[View]) -> dict[str, Any]:
    return {
        "kind": "bars",
        "mode": axis.mode,
        "upright": axis.upright,
        "axis": axis.name,
        "start": axis.start,
        **_as_unit(axis.scale),
        "views": [{"labels": list(map(_label, view.labels)), "parts": list(map(_bar, view.parts))} for view in views],
    }


def _bar(part: Part) -> dict[str, Any]:
    placed = {"begins": part.begins, "words": part.words} if part.begins else {}
    look = {"colour": part.look[0], "pattern": part.look[1]}
    return {"name": _label(part.name), **look, "values": part.values, **placed}


def _bars_table(axis: str, scale: Scale, views: Sequence[View], chooses: str) -> Table:
    columns = list(dict.fromkeys(part.name for view in views for part in view.parts))
    rows = []
    for view in views:
        by_name = {part.name: part.values for part in view.parts}
        for i, label in enumerate(view.labels):
            cells = (_cell(scale, by_name[name][i] if name in by_name else None) for name in columns)
            rows.append((*((view.name,) if len(views) > 1 else ()), label, *cells))
    head = (*((chooses,) if len(views) > 1 else ()), axis)
    return Table(
        columns=(*head, *(f"{name} ({scale.unit})" for name in columns)), rows=tuple(rows), words=frozenset(head)
    )


def lines(title: str, scale: Scale, of_chart: Sequence[Line], notes: tuple[str, ...] = ()) -> Figure:
    """Lines over time; the table has the ends, the least and the most of each."""
    drawn = [
        {"name": _label(line.name), **line_look(i), "x": _drawn(line.seconds), "y": _drawn(line.values)}
        for i, line in enumerate(of_chart)
    ]
    columns = ("", "first", "least", "most", "last", "points")
    rows = tuple(
        (
            line.name,
            *(_cell(scale, value) for value in (line.values[0], min(line.values), max(line.values), line.values[-1])),
            f"{len(line.values):,}",
        )
        for line in of_chart
    )
    return Figure(
        title=title,
        description=f"{title} over time, {plural(len(of_chart), 'line')}. Its table follows.",
        chart={"kind": "lines", "axis": "seconds", **_as_unit(scale), "lines": drawn},
        table=Table(columns=columns, rows=rows, words=frozenset({""}), notes=(f"in {scale.unit}",) * bool(scale.unit)),
        notes=notes,
    )


def _drawn(values: Sequence[float]) -> list[float]:
    """As exact as a screen shows, so that long lines take little of the page."""
    return [float(f"{value:.5g}") for value in values]


def points(
    title: str,
    scale: Scale,
    marks: Sequence[Mark],
    looks: Mapping[str, Look],
    table: Table,
    notes: tuple[str, ...] = (),
) -> Figure:
    """Points over a logarithmic axis of bytes, a colour and a shape for each kind."""
    kinds = list(dict.fromkeys(mark.kind for mark in marks))
    drawn = [
        _of_kind([mark for mark in marks if mark.kind == kind], looks[kind], SYMBOLS[i % len(SYMBOLS)])
        for i, kind in enumerate(kinds)
    ]
    return Figure(
        title=title,
        description=f"{title}: {', '.join(kinds)}. Its table follows.",
        chart={"kind": "points", "axis": "bytes of a call", **_as_unit(scale), "marks": drawn},
        table=table,
        notes=notes,
    )


def _of_kind(marks: Sequence[Mark], look: Look, symbol: str) -> dict[str, Any]:
    return {
        "name": _label(marks[0].kind),
        "colour": look[0],
        "symbol": symbol,
        "x": [mark.x for mark in marks],
        "y": [mark.y for mark in marks],
        "words": [_label(mark.words) for mark in marks],
    }


def _label(text: str) -> str:
    return cut(printable(text), _LONGEST_LABEL)


def _as_unit(scale: Scale) -> dict[str, Any]:
    return {"unit": scale.unit, "divisor": scale.divisor, "decimals": scale.decimals}


def _cell(scale: Scale, value: float | None) -> str:
    return "" if value is None else scale.figure(value)
