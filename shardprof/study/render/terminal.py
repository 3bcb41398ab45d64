"""A study's report in the terminal: the answer, what to take, then the figures with bars. Widths and colours as in
`shardprof report`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TextIO

from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from shardprof.render._layout import GLYPHS, INDENT, indented, text_of, with_notes, write
from shardprof.render._tables import Table
from shardprof.render._text import pack, wrap
from shardprof.render._view import GROUP_NAMES
from shardprof.study.conclusions.study_report import StudyReport
from shardprof.study.render._section import Bars, Chart, Section, Stacks
from shardprof.study.render._view import View, view_of
from shardprof.trace.classes import class_name
from shardprof.words import printable

_LEAST_BAR = 12
_MOST_WRAPPED = 1.5
_INTERVAL = re.compile(r" \([\d.,]+ to [\d.,]+\)")
_COLOURS = {"FSDP": "cyan", "DeepSpeed": "yellow", "DDP": "green"}
_BAR, _WHISKER, _ENDS, _FIGURE = "█", "─", "├┤", "┼"


def render(report: StudyReport, out: TextIO) -> None:
    """Write the report to `out`."""
    write(out, partial(_parts, view_of(report)))


def _parts(view: View, width: int) -> Iterator[RenderableType]:
    inner = width - INDENT
    title = printable(f"shardprof bench report  {view.title}")
    first, *more = pack([title, *map(printable, view.about)], " · ", inner)
    line = text_of(first)
    line.stylize("bold", 0, len(title))
    yield line
    yield from (indented(line) for line in more)
    yield ""
    yield from (indented(line, "bold") for sentence in view.answer for line in wrap(sentence, inner))
    yield from (indented(line, "dim") for line in wrap(view.sureness, inner))
    for section in view.sections:
        yield ""
        yield from _section(section, inner)


def _section(section: Section, width: int) -> Iterator[RenderableType]:
    yield text_of(section.title, "bold underline")
    hidden = len(section.lines) - section.most_lines
    more = [f"{hidden:,} more as Markdown and HTML"] if hidden > 0 else []
    for sentence in (*section.lines[: section.most_lines], *more):
        yield from (indented(line) for line in wrap(sentence, width))
    tables = () if section.detail and section.lines else _noted(section)
    drawings = filter(None, (list(_chart(chart, width)) for chart in section.charts))
    for index, (drawing, shown) in enumerate(zip_longest(drawings, tables)):
        yield from [""] * bool(index or section.lines)
        yield from drawing or ()
        if shown:
            title, table = shown
            yield from (indented(line, "bold") for line in ([] if drawing else wrap(title, width)))
            yield from _blocks(table, width) if _is_wordy(table, width) else with_notes(_fitting(table, width), width)


def _noted(section: Section) -> tuple[tuple[str, Table], ...]:
    """The tables of a section, the last one with the remarks: those on columns go where these go."""
    if not section.tables:
        return ()
    *before, (title, last) = section.tables
    return (*before, (title, replace(last, notes=section.remarks)))


def _is_wordy(table: Table, width: int) -> bool:
    """Whether its columns of words would be wrapped to ribbons."""
    if table.columns[-1] not in table.words:
        return False
    longest = (max(len(row[index]) for row in table.rows) for index in range(len(table.columns)))
    return sum(longest) > _MOST_WRAPPED * width


def _fitting(table: Table, width: int) -> Table:
    """The table without the intervals beside its figures, where there is no room for them."""
    kept = [index for index, column in enumerate(table.columns) if column not in table.spare]
    widths = (max(len(cells[index]) for cells in (table.columns, *table.rows)) + 1 for index in kept)
    if sum(widths) <= width + 1:
        return table
    return replace(table, rows=tuple(tuple(_INTERVAL.sub("", cell) for cell in row) for row in table.rows))


def _blocks(table: Table, width: int) -> Iterator[Text]:
    """A row as a heading and, below it, what its last column says."""
    for row in table.rows:
        heading = " · ".join(filter(None, row[:-1]))
        for line in wrap(heading, width):
            shown = indented(line, "dim")
            shown.stylize("not dim bold", 0, INDENT + len(row[0]))
            yield shown
        yield from (indented(" " * INDENT + line) for line in wrap(row[-1], width - INDENT))
    yield from (indented(line, "dim") for line in wrap("; ".join(table.notes), width))


def _chart(chart: Chart, width: int) -> Iterator[RenderableType]:
    """Curves are left to outputs that can draw: their figures are in the tables."""
    if isinstance(chart, Bars):
        yield from _bars(chart, width)
    elif isinstance(chart, Stacks):
        yield from _stacks(chart, width)


def _bars(chart: Bars, width: int) -> Iterator[Text]:
    labels = _labels([bar.label for bar in chart.bars], width)
    texts = [bar.text for bar in chart.bars]
    if width - len(labels[0]) - max(map(len, texts)) - 2 * INDENT < _LEAST_BAR:
        texts = [_INTERVAL.sub("", text) for text in texts]
    column = max(map(len, texts))
    room = max(width - len(labels[0]) - column - 2 * INDENT, _LEAST_BAR)
    most = max(bar.high or bar.value for bar in chart.bars)
    yield from (indented(line, "bold") for line in wrap(f"{chart.title} ({chart.unit})", width))
    for bar, label, text in zip(chart.bars, labels, texts, strict=True):
        low, at, high = (round(room * end / most) for end in (bar.low or bar.value, bar.value, bar.high or bar.value))
        line = indented(f"{label}  {text:>{column}}  ")
        line.append(_BAR * low + _whiskers(at - low, high - low), style=_COLOURS[bar.family])
        yield line


def _labels(names: Sequence[str], width: int) -> list[str]:
    """Names as a column of at most a third of the width."""
    shown = [printable(name)[: width // 3] for name in names]
    return [name.ljust(max(map(len, shown))) for name in shown]


def _whiskers(at: int, cells: int) -> str:
    """An interval of so many cells, and where in it the figure is."""
    drawn = [_ENDS[0], *_WHISKER * (cells - 2), _ENDS[1]][-cells:] if cells else []
    if 0 < at < cells - 1:
        drawn[at] = _FIGURE
    return "".join(drawn)


def _stacks(chart: Stacks, width: int) -> Iterator[Text]:
    labels = _labels([label for label, _ in chart.rows], width)
    room = max(width - len(labels[0]) - INDENT, _LEAST_BAR)
    longest = max(sum(parts.values()) for _, parts in chart.rows)
    yield from (indented(line, "bold") for line in wrap(chart.title, width))
    for label, (_, parts) in zip(labels, chart.rows, strict=True):
        line = indented(f"{label}  ")
        at, reached = 0.0, 0
        for group in _groups(chart.rows):
            at += parts.get(group, 0.0)
            cells = round(room * at / longest) - reached
            reached += cells
            line.append(GLYPHS[group][0] * cells, style=GLYPHS[group][1])
        yield line
    yield from _legend(_groups(chart.rows), width)


def _groups(rows: Sequence[tuple[str, object]]) -> list[str]:
    """The groups of which some row has a part, in their order."""
    return [group for group in GLYPHS if any(group in parts for _, parts in rows)]  # type: ignore[operator]


def _legend(groups: Sequence[str], width: int) -> Iterator[Text]:
    entries = [f"{GLYPHS[group][0]} {GROUP_NAMES.get(group, class_name(group))}" for group in groups]
    for line in pack(entries, "   ", width):
        text = indented(line, "dim")
        for group in groups:
            text.highlight_words([GLYPHS[group][0]], Style(color=GLYPHS[group][1], dim=False))
        yield text
