"""The report as Markdown tables, to paste into a pull request: the same words as in the terminal, without bars."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from shardprof.analysis.result import Result
from shardprof.render._findings import FindingText
from shardprof.render._tables import SHORT_NAMES, Table
from shardprof.render._text import printable
from shardprof.render._view import GROUP_NAMES, View, focused_view
from shardprof.render._words import class_name

_ACTIVE = re.compile(r"([\\`*_\[\]<>|~&$]|:(?=//)|(?<=www)\.)")
_MENTION = re.compile(r"([@#])")
_FENCE = re.compile("`+")


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write the report, or of it what is asked for; what UTF-8 has and the output's encoding has not becomes "?"."""
    encoding = out.encoding or "utf-8"
    for line in _lines(focused_view(result, focus)):
        out.write((line + "\n").encode(encoding, "replace").decode(encoding))


def _lines(report: View) -> Iterator[str]:
    yield f"### shardprof: {_escaped(report.title)}"
    yield from _paragraph([_escaped(" · ".join(report.about))])
    yield from _paragraph([f"**{_escaped(report.verdict)}**"])
    yield from _paragraph([_escaped(" · ".join(report.figures))])
    if report.ranks:
        yield from _table(report.ranks)
        named = [f"{SHORT_NAMES[group]}: {GROUP_NAMES.get(group, class_name(group))}" for group in report.groups]
        yield from _paragraph([_escaped("; ".join(["shares of time in %", *named, *report.ranks.notes]))])
    for table in report.tables:
        if table:
            yield from _table(table)
            yield from _paragraph([_escaped("; ".join(table.notes))])
    yield from _paragraph([line for finding in report.findings for line in _finding(finding)])
    slowest = [f"slowest step: {report.slowest}"] if report.slowest else []
    late = [f"late: {line}" for line in report.late]
    volume = [f"volume: {line}" for line in report.volume]
    links = [f"links: {line}" for line in report.links]
    notices = [f"noticed: {line}" for line in report.notices]
    doubts = [f"doubtful: {line}" for line in report.doubts]
    commands = [f"- next: {_code(command)} {_escaped(why)}" for command, why in report.next_commands]
    remarks = (*slowest, *late, *volume, *links, *notices, *doubts)
    yield from _paragraph([*(f"- {_escaped(line)}" for line in remarks), *commands])


def _finding(finding: FindingText) -> Iterator[str]:
    wins = f" ({finding.wins})" if finding.wins else ""
    yield f"1. **{_escaped(finding.title)}**{_escaped(wins)}"
    yield from (f"   - {label}: {_escaped(text)}" for label, text in finding.lines)


def _paragraph(lines: Sequence[str]) -> list[str]:
    return ["", *lines] if any(lines) else []


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield _row(table.columns)
    yield "|" + "|".join(":--" if column in table.words else "--:" for column in table.columns) + "|"
    yield from (_row(row) for row in table.rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown does not take for markup, a link, HTML or (with the comment) someone to be notified."""
    return _MENTION.sub(r"\1<!-- -->", _ACTIVE.sub(r"\\\1", printable(text)))


def _code(text: str) -> str:
    """Text as inline code, inside more backticks than it holds."""
    fence = "`" * (1 + max((len(run) for run in _FENCE.findall(text)), default=0))
    return f"{fence} {printable(text)} {fence}" if len(fence) > 1 else f"`{printable(text)}`"
