"""The report in the terminal: the verdict, a bar of the classes for each rank, communication, what is doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TextIO

from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from shardprof.analysis.result import Result
from shardprof.render._findings import FindingText
from shardprof.render._layout import GLYPHS, INDENT, drawn, indented, remarks, text_of, with_notes, write
from shardprof.render._text import pack, wrap
from shardprof.render._view import GROUP_NAMES, View, focused_view
from shardprof.trace.classes import class_name
from shardprof.words import printable

_ROOMY = 100


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write the report to `out`, or of it what is asked for."""
    write(out, partial(_parts, focused_view(result, focus)))


def _parts(report: View, width: int) -> Iterator[RenderableType]:
    inner = width - INDENT
    yield from _heading(report, inner)
    yield ""
    yield from (indented(line, "bold") for line in wrap(report.verdict, inner) if line)
    yield from (indented(line) for line in pack(report.figures, "   ", inner))
    if report.ranks:
        yield ""
        yield drawn(report.ranks, gap=2 if width >= _ROOMY else 1)
        yield from _legend(report.groups, inner)
        yield from (indented(note, "dim") for note in report.ranks.notes)
    for table in report.tables:
        if table:
            yield ""
            yield from with_notes(table, inner)
    yield ""
    for number, finding in enumerate(report.findings, 1):
        yield from _finding(number, finding, inner)
    if report.findings:
        yield ""
    yield from remarks(_entries(report), report.next_commands, inner)


def _heading(report: View, width: int) -> Iterator[Text]:
    title = printable(f"shardprof  {report.title}")
    first, *more = pack([title, *map(printable, report.about)], " · ", width)
    line = text_of(first)
    line.stylize("bold", 0, len(title))
    yield line
    yield from (indented(line) for line in more)


def _entries(report: View) -> Sequence[tuple[str, str, Sequence[str]]]:
    return (
        ("slowest step", "cyan", [report.slowest] if report.slowest else []),
        ("late", "yellow", report.late),
        ("volume", "cyan", report.volume),
        ("links", "cyan", report.links),
        ("noticed", "yellow", report.notices),
        ("doubtful", "yellow", report.doubts),
    )


def _finding(number: int, finding: FindingText, width: int) -> Iterator[Text]:
    """Its title with what it would win, and its lines beside their labels."""
    lead = f"{number:<{INDENT + 1}}"
    title, *more = wrap(f"{finding.title}  ({finding.wins})" if finding.wins else finding.title, width - len(lead))
    for line in (lead + title, *(" " * len(lead) + line for line in more)):
        yield indented(line, "bold")
    column = max(len(label) for label, _ in finding.lines) + INDENT
    for label, text in finding.lines:
        for index, line in enumerate(wrap(text, width - len(lead) - column)):
            shown = indented(" " * len(lead) + (label if index == 0 else "").ljust(column) + line)
            shown.stylize("dim", 0, INDENT + len(lead) + column)
            yield shown


def _legend(groups: Sequence[str], width: int) -> Iterator[Text]:
    entries = [f"{GLYPHS[group][0]} {GROUP_NAMES.get(group, class_name(group))}" for group in groups]
    for line in pack(entries, "   ", width):
        text = indented(line, "dim")
        for glyph, colour in GLYPHS.values():
            text.highlight_words([glyph], Style(color=colour, dim=False))
        yield text
