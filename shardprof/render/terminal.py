"""The report in the terminal: the verdict, a bar of the classes for each rank, communication, what is doubtful.

Lines are as wide as the terminal, between 60 and 160 columns; in a pipe 100, or what COLUMNS says. Colour only adds to
what glyphs tell, and is left out in a pipe and with NO_COLOR. Output that is not UTF-8 gets ASCII glyphs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Literal, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from shardprof.analysis.result import Result
from shardprof.render._findings import FindingText
from shardprof.render._tables import Table
from shardprof.render._text import pack, printable, wrap
from shardprof.render._view import GROUP_NAMES, View, focused_view
from shardprof.render._words import class_name

_INDENT = 2
_LEFT = (0, 0, 0, _INDENT)
_PIPE_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 100, 60, 160
_ANY_HEIGHT = 100
_LEAST_BAR = 10
_ROOMY = 100

_GLYPHS = {
    "compute": ("█", "cyan"),
    "communication": ("▒", "magenta"),
    "copies": ("▚", "green"),
    "data_loading": ("▄", "blue"),
    "launch_bound": ("╌", "yellow"),
    "idle": ("·", "bright_black"),
}
_ASCII = str.maketrans("█▒▚▄╌·µ…", "#%/=-.u~")


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write the report to `out`, or of it what is asked for."""
    lines = StringIO()
    console = Console(
        file=lines,
        width=_width(out),
        height=_ANY_HEIGHT,  # without one, rich takes 80 columns where TERM is "dumb"
        force_terminal=out.isatty(),
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in _parts(focused_view(result, focus), console.width):
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    for line in lines.getvalue().splitlines():
        out.write(_encodable(line.rstrip(), out.encoding) + "\n")


def _width(out: TextIO) -> int:
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        width = int(asked)
    else:
        width = (out.isatty() and os.get_terminal_size(out.fileno()).columns) or _PIPE_WIDTH
    return min(max(width, _LEAST_WIDTH), _MOST_WIDTH)


def _encodable(line: str, encoding: str | None) -> str:
    if encoding is None or encoding.lower().replace("-", "").startswith("utf"):
        return line
    return line.translate(_ASCII).encode(encoding, "replace").decode(encoding)


def _parts(report: View, width: int) -> Iterator[RenderableType]:
    inner = width - _INDENT
    yield from _heading(report, inner)
    yield ""
    yield from (_indented(line, "bold") for line in wrap(report.verdict, inner) if line)
    yield from (_indented(line) for line in pack(report.figures, "   ", inner))
    if report.ranks:
        yield ""
        yield Padding(_table(report.ranks, gap=2 if width >= _ROOMY else 1), _LEFT)
        yield from _legend(report.groups, inner)
        yield from (_indented(note, "dim") for note in report.ranks.notes)
    for table in report.tables:
        if table:
            yield ""
            fitting = _narrowed(table, inner)
            yield Padding(_table(fitting, gap=2 if _width_of(fitting, 2) <= inner else 1), _LEFT)
            yield from (_indented(line, "dim") for line in wrap("; ".join(fitting.notes), inner))
    yield ""
    for number, finding in enumerate(report.findings, 1):
        yield from _finding(number, finding, inner)
    if report.findings:
        yield ""
    yield from _remarks(report, inner)


def _heading(report: View, width: int) -> Iterator[Text]:
    title = printable(f"shardprof  {report.title}")
    first, *more = pack([title, *map(printable, report.about)], " · ", width)
    line = _text(first)
    line.stylize("bold", 0, len(title))
    yield line
    yield from (_indented(line) for line in more)


def _remarks(report: View, width: int) -> Iterator[Text]:
    """What stands below the tables: a label and its lines, the lines wrapped beside the label."""
    labelled = (
        ("slowest step", "cyan", [report.slowest] if report.slowest else []),
        ("late", "yellow", report.late),
        ("volume", "cyan", report.volume),
        ("links", "cyan", report.links),
        ("noticed", "yellow", report.notices),
        ("doubtful", "yellow", report.doubts),
    )
    column = max([len("next"), *(len(label) for label, _, remarks in labelled if remarks)]) + _INDENT
    for label, style, remarks in labelled:
        yield from _labelled(label, style, column, [line for text in remarks for line in wrap(text, width - column)])
    commands = [line for command, why in report.next_commands for line in _command(command, why, width - column)]
    for text in _labelled("next", "green", column, commands):
        text.no_wrap = True
        yield text


def _finding(number: int, finding: FindingText, width: int) -> Iterator[Text]:
    """Its title with what it would win, and its lines beside their labels."""
    lead = f"{number:<{_INDENT + 1}}"
    title, *more = wrap(f"{finding.title}  ({finding.wins})" if finding.wins else finding.title, width - len(lead))
    for line in (lead + title, *(" " * len(lead) + line for line in more)):
        yield _indented(line, "bold")
    column = max(len(label) for label, _ in finding.lines) + _INDENT
    for label, text in finding.lines:
        for index, line in enumerate(wrap(text, width - len(lead) - column)):
            shown = _indented(" " * len(lead) + (label if index == 0 else "").ljust(column) + line)
            shown.stylize("dim", 0, _INDENT + len(lead) + column)
            yield shown


def _labelled(label: str, style: str, column: int, lines: Sequence[str]) -> Iterator[Text]:
    for number, line in enumerate(lines):
        text = _indented((label if number == 0 else "").ljust(column) + line)
        text.stylize(style, 0, column + _INDENT)
        yield text


def _command(command: str, purpose: str, width: int) -> list[str]:
    """A command with its purpose as a comment, on lines that can each be pasted: the command's own is never broken."""
    together = f"{command}   # {purpose}"
    return [together] if len(together) <= width else [*wrap(f"# {purpose}", width), command]


def _table(table: Table, gap: int) -> RichTable:
    drawn = RichTable(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", expand=bool(table.bars))
    for index, column in enumerate(table.columns):
        if table.bars and index == table.bars_at:
            drawn.add_column(_axis(), ratio=1, min_width=_LEAST_BAR)
        words = column in table.words
        is_wrapped = bool(words and column and index)
        justify: Literal["left", "right"] = "left" if words else "right"
        drawn.add_column(_text(column), justify=justify, no_wrap=not is_wrapped, overflow="fold")
    for number, row in enumerate(table.rows):
        cells: list[RenderableType] = [_text(cell) for cell in row]
        if table.bars:
            cells.insert(table.bars_at, _Bar(table.bars[number]))
        drawn.add_row(*cells)
    return drawn


def _narrowed(table: Table, width: int) -> Table:
    """The table without columns for which there is no room even where words are wrapped."""
    for column in table.spare:
        if _width_of(table, 1, wrapped=True) > width:
            table = table.without(column)
    return table


def _width_of(table: Table, gap: int, *, wrapped: bool = False) -> int:
    width = 0
    for index, (name, *cells) in enumerate(zip(table.columns, *table.rows, strict=True)):
        is_wrapped = wrapped and index > 0 and name in table.words
        texts = [word for cell in cells for word in cell.split()] if is_wrapped else cells
        width += max(map(len, [name, *texts])) + gap
    return width - gap


def _axis() -> RichTable:
    axis = RichTable.grid(expand=True)
    axis.add_column()
    axis.add_column(justify="right")
    axis.add_row("0 %", "100 %")
    return axis


def _legend(groups: Sequence[str], width: int) -> Iterator[Text]:
    entries = [f"{_GLYPHS[group][0]} {GROUP_NAMES.get(group, class_name(group))}" for group in groups]
    for line in pack(entries, "   ", width):
        text = _indented(line, "dim")
        for glyph, colour in _GLYPHS.values():
            text.highlight_words([glyph], Style(color=colour, dim=False))
        yield text


def _text(text: str, style: str = "") -> Text:
    """The one way for words into the output: no markup, no control characters."""
    return Text(printable(text), style=style)


def _indented(line: str, style: str = "") -> Text:
    return _text(" " * _INDENT + line, style)


class _Bar:
    """Shares of classes as a bar of the width that its column has."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = shares

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for group, cells in _apportioned(self.shares, options.max_width).items():
            glyph, colour = _GLYPHS[group]
            yield Segment(glyph * cells, Style(color=colour))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_BAR, options.max_width)


def _apportioned(shares: Mapping[str, float], cells: int) -> dict[str, int]:
    """Whole cells for shares of one, by largest remainders."""
    exact = {group: share * cells for group, share in shares.items()}
    whole = {group: int(value) for group, value in exact.items()}
    by_remainder = sorted(exact, key=lambda group: whole[group] - exact[group])
    for group in by_remainder[: round(sum(exact.values())) - sum(whole.values())]:
        whole[group] += 1
    return whole
