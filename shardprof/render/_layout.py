"""How the parts of a text for people become lines in a terminal: widths, indents, labels, tables, bars.

Lines are as wide as the terminal, between 60 and 160 columns; in a pipe 100, or what COLUMNS says. Colour only adds to
what glyphs tell, and is left out in a pipe and with NO_COLOR. Output that is not UTF-8 gets ASCII glyphs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Literal, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from shardprof.render._tables import Table
from shardprof.render._text import wrap
from shardprof.words import printable

INDENT = 2
_PIPE_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 100, 60, 160
_ANY_HEIGHT = 100
_LEAST_BAR = 10

GLYPHS = {
    "compute": ("█", "cyan"),
    "communication": ("▒", "magenta"),
    "copies": ("▚", "green"),
    "data_loading": ("▄", "blue"),
    "launch_bound": ("╌", "yellow"),
    "idle": ("·", "bright_black"),
}
_ASCII = str.maketrans("█▒▚▄╌·µ…→├┤─┼", "#%/=-.u~>||-+")


def write(out: TextIO, parts: Callable[[int], Iterable[RenderableType]]) -> None:
    """Write parts to `out`; they are told how wide it is."""
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
    for part in parts(console.width):
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


def text_of(text: str, style: str = "") -> Text:
    """The one way for words into the output: no markup, no control characters."""
    return Text(printable(text), style=style)


def indented(line: str, style: str = "") -> Text:
    return text_of(" " * INDENT + line, style)


def labelled(label: str, style: str, column: int, lines: Sequence[str]) -> Iterator[Text]:
    """Lines beside their label, which has `column` characters."""
    for number, line in enumerate(lines):
        text = indented((label if number == 0 else "").ljust(column) + line)
        text.stylize(style, 0, column + INDENT)
        yield text


def remarks(
    entries: Sequence[tuple[str, str, Sequence[str]]], commands: Sequence[tuple[str, str]], width: int
) -> Iterator[Text]:
    """What stands below the tables: a label, its style and its texts, wrapped beside it; then which commands (with
    their purpose) come next."""
    column = max([len("next"), *(len(label) for label, _, texts in entries if texts)]) + INDENT
    for label, style, texts in entries:
        yield from labelled(label, style, column, [line for text in texts for line in wrap(text, width - column)])
    lines = [line for command, why in commands for line in _command_lines(command, why, width - column)]
    for text in labelled("next", "green", column, lines):
        text.no_wrap = True
        yield text


def with_notes(table: Table, width: int) -> Iterator[RenderableType]:
    """A table as far as it fits, with the notes on its columns below."""
    fitting = _narrowed(table, width)
    yield drawn(fitting, gap=2 if _width_of(fitting, 2) <= width else 1)
    yield from (indented(line, "dim") for line in wrap("; ".join(fitting.notes), width))


def drawn(table: Table, gap: int) -> RenderableType:
    """A table with `gap` spaces between columns."""
    return Padding(_drawn(table, gap), (0, 0, 0, INDENT))


def _command_lines(command: str, purpose: str, width: int) -> list[str]:
    """A command with its purpose as a comment, on lines that can each be pasted: the command's own is never broken."""
    together = f"{command}   # {purpose}"
    return [together] if len(together) <= width else [*wrap(f"# {purpose}", width), command]


def _drawn(table: Table, gap: int) -> RichTable:
    made = RichTable(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", expand=bool(table.bars))
    for index, column in enumerate(table.columns):
        if table.bars and index == table.bars_at:
            made.add_column(_axis(), ratio=1, min_width=_LEAST_BAR)
        words = column in table.words
        is_wrapped = bool(words and column and index)
        justify: Literal["left", "right"] = "left" if words else "right"
        made.add_column(text_of(column), justify=justify, no_wrap=not is_wrapped, overflow="fold")
    for number, row in enumerate(table.rows):
        cells: list[RenderableType] = [text_of(cell) for cell in row]
        if table.bars:
            cells.insert(table.bars_at, _Bar(table.bars[number]))
        made.add_row(*cells)
    return made


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


class _Bar:
    """Shares of classes as a bar of the width that its column has."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = shares

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for group, cells in _apportioned(self.shares, options.max_width).items():
            glyph, colour = GLYPHS[group]
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
