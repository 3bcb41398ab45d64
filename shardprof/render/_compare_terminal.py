"""A comparison in the terminal: the verdict, what the difference consists of as a waterfall, tables, what to mind.

Widths, colours and encodings as in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render._compare_view import Bar, CompareView, compare_view
from shardprof.render._tables import Table
from shardprof.render._text import printable, wrap
from shardprof.render._words import duration
from shardprof.render.terminal import (
    _ANY_HEIGHT,
    _INDENT,
    _LEFT,
    _command,
    _encodable,
    _indented,
    _labelled,
    _narrowed,
    _table,
    _text,
    _width,
    _width_of,
)

_TOTAL, _MORE, _LESS = ("█", "cyan"), ("▒", "red"), ("╌", "green")
_STYLES = {"not comparable": "red", "mind": "yellow", "doubtful": "yellow"}
_ZOOM = 0.25
"""Bars begin at nothing where the changes reach over this much of the longest; else shortly below the changes."""


def render(comparison: Comparison, out: TextIO) -> None:
    """Write the comparison to `out`."""
    lines = StringIO()
    console = Console(
        file=lines,
        width=_width(out),
        height=_ANY_HEIGHT,
        force_terminal=out.isatty(),
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in _parts(compare_view(comparison), console.width):
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    for line in lines.getvalue().splitlines():
        out.write(_encodable(_with_arrows(line.rstrip(), out.encoding), out.encoding) + "\n")


def _with_arrows(line: str, encoding: str | None) -> str:
    """The line with arrows that the encoding has."""
    try:
        "→".encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return line.replace("→", ">")
    return line


def _parts(view: CompareView, width: int) -> Iterator[RenderableType]:
    inner = width - _INDENT
    heading = wrap(f"shardprof compare  {view.title}", inner)
    yield from (_text(line, "bold") for line in heading)
    for name, about in view.sides:
        yield from _labelled(name, "cyan", len(name) + _INDENT, wrap(about, inner - len(name) - _INDENT))
    yield ""
    yield from (_indented(line, "bold") for line in wrap(view.verdict, inner))
    yield from (_indented(line, "red") for line in wrap(view.warning, inner))
    if view.steps:
        yield from _with_notes(view.steps, inner)
    if view.waterfall:
        yield ""
        yield from _waterfall(view.waterfall, inner)
        yield from (_indented(line, "dim") for line in wrap(view.waterfall_note, inner))
    for table in view.tables:
        yield from _with_notes(table, inner)
    yield ""
    yield from _remarks(view, inner)


def _with_notes(table: Table, inner: int) -> Iterator[RenderableType]:
    fitting = _narrowed(table, inner)
    yield ""
    yield Padding(_table(fitting, gap=2 if _width_of(fitting, 2) <= inner else 1), _LEFT)
    yield from (_indented(line, "dim") for line in wrap("; ".join(fitting.notes), inner))


def _waterfall(bars: Sequence[Bar], width: int) -> Iterator[Text]:
    labels = max(len(bar.label) for bar in bars)
    figures = max(len(bar.figure) for bar in bars)
    room = width - labels - figures - 4
    most_ns = max(max(bar.begin_ns, bar.end_ns) for bar in bars)
    least_ns = min(min(bar.begin_ns, bar.end_ns) for bar in bars if bar.change) if len(bars) > 2 else most_ns
    begin_ns = 0 if most_ns - least_ns >= _ZOOM * most_ns else max(0, round(least_ns - (most_ns - least_ns) / 2))
    if begin_ns >= most_ns:
        begin_ns = 0
    yield _axis(duration(begin_ns) if begin_ns else "0", duration(most_ns), labels + figures + 4, room)
    for bar in bars:
        first, last = sorted((bar.begin_ns, bar.end_ns))
        cells = [round(room * max(0, at_ns - begin_ns) / (most_ns - begin_ns)) for at_ns in (first, last)]
        glyph, colour = _MORE if bar.change > 0 else _LESS if bar.change < 0 else _TOTAL
        line = _indented(f"{printable(bar.label):<{labels}}  {bar.figure:>{figures}}  {' ' * cells[0]}")
        line.append(glyph * max(1, cells[1] - cells[0]), style=colour)
        yield line


def _axis(first: str, last: str, indent: int, room: int) -> Text:
    return _indented(f"{' ' * indent}{first}{last:>{room - len(first)}}", "dim")


def _remarks(view: CompareView, inner: int) -> Iterator[Text]:
    column = max([len("next"), *(len(label) for label, _ in view.remarks)]) + _INDENT
    for label, remarks in view.remarks:
        lines = [line for remark in remarks for line in wrap(remark, inner - column)]
        yield from _labelled(label, _STYLES.get(label, "cyan"), column, lines)
    commands = [line for command, why in view.next_commands for line in _command(command, why, inner - column)]
    for text in _labelled("next", "green", column, commands):
        text.no_wrap = True
        yield text
