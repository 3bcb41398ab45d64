"""A comparison in the terminal: the verdict, what the difference consists of as a waterfall, tables, what to mind.

Widths, colours and encodings as in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render._compare_view import Bar, CompareView, compare_view, waterfall_begin_ns
from shardprof.render._layout import INDENT, indented, labelled, remarks, text_of, with_notes, write
from shardprof.render._text import wrap
from shardprof.words import duration, printable

_TOTAL, _MORE, _LESS = ("█", "cyan"), ("▒", "red"), ("╌", "green")
_STYLES = {"not comparable": "red", "mind": "yellow", "doubtful": "yellow"}


def render(comparison: Comparison, out: TextIO) -> None:
    """Write the comparison to `out`."""
    write(out, partial(_parts, compare_view(comparison)))


def _parts(view: CompareView, width: int) -> Iterator[RenderableType]:
    inner = width - INDENT
    heading = wrap(f"shardprof compare  {view.title}", inner)
    yield from (text_of(line, "bold") for line in heading)
    for name, about in view.sides:
        yield from labelled(name, "cyan", len(name) + INDENT, wrap(about, inner - len(name) - INDENT))
    yield ""
    yield from (indented(line, "bold") for line in wrap(view.verdict, inner))
    yield from (indented(line, "red") for line in wrap(view.warning, inner))
    if view.steps:
        yield ""
        yield from with_notes(view.steps, inner)
    if view.waterfall:
        yield ""
        yield from _waterfall(view.waterfall, inner)
        yield from (indented(line, "dim") for line in wrap(view.waterfall_note, inner))
    for table in view.tables:
        yield ""
        yield from with_notes(table, inner)
    yield ""
    entries = [(label, _STYLES.get(label, "cyan"), texts) for label, texts in view.remarks]
    yield from remarks(entries, view.next_commands, inner)


def _waterfall(bars: Sequence[Bar], width: int) -> Iterator[Text]:
    labels = max(len(bar.label) for bar in bars)
    figures = max(len(bar.figure) for bar in bars)
    room = width - labels - figures - 4
    most_ns = max(max(bar.begin_ns, bar.end_ns) for bar in bars)
    begin_ns = waterfall_begin_ns(bars)
    yield _axis(duration(begin_ns) if begin_ns else "0", duration(most_ns), labels + figures + 4, room)
    for bar in bars:
        first, last = sorted((bar.begin_ns, bar.end_ns))
        cells = [round(room * max(0, at_ns - begin_ns) / (most_ns - begin_ns)) for at_ns in (first, last)]
        cells[0] = min(cells[0], room - 1)
        glyph, colour = _MORE if bar.change > 0 else _LESS if bar.change < 0 else _TOTAL
        line = indented(f"{printable(bar.label):<{labels}}  {bar.figure:>{figures}}  {' ' * cells[0]}")
        line.append(glyph * max(1, cells[1] - cells[0]), style=colour)
        yield line


def _axis(first: str, last: str, indent: int, room: int) -> Text:
    return indented(f"{' ' * indent}{first}{last:>{room - len(first)}}", "dim")
