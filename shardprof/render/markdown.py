"""The report as Markdown tables, to paste into a pull request: the same words as in the terminal, without bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shardprof.analysis.result import Result
from shardprof.render._findings import FindingText
from shardprof.render._markup import code, escaped, paragraph, table, with_notes, write
from shardprof.render._view import View, focused_view, short_names


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write the report, or of it what is asked for."""
    write(out, _lines(focused_view(result, focus)))


def _lines(report: View) -> Iterator[str]:
    yield f"### shardprof: {escaped(report.title)}"
    yield from paragraph([escaped(" · ".join(report.about))])
    yield from paragraph([f"**{escaped(report.verdict)}**"])
    yield from paragraph([escaped(" · ".join(report.figures))])
    if report.ranks:
        yield from table(report.ranks)
        yield from paragraph(
            [escaped("; ".join(["shares of time in %", *short_names(report.groups), *report.ranks.notes]))]
        )
    for shown in filter(None, report.tables):
        yield from with_notes(shown)
    yield from paragraph([line for finding in report.findings for line in _finding(finding)])
    slowest = [f"slowest step: {report.slowest}"] if report.slowest else []
    late = [f"late: {line}" for line in report.late]
    volume = [f"volume: {line}" for line in report.volume]
    links = [f"links: {line}" for line in report.links]
    notices = [f"noticed: {line}" for line in report.notices]
    doubts = [f"doubtful: {line}" for line in report.doubts]
    commands = [f"- next: {code(command)} {escaped(why)}" for command, why in report.next_commands]
    remarks = (*slowest, *late, *volume, *links, *notices, *doubts)
    yield from paragraph([*(f"- {escaped(line)}" for line in remarks), *commands])


def _finding(finding: FindingText) -> Iterator[str]:
    wins = f" ({finding.wins})" if finding.wins else ""
    yield f"1. **{escaped(finding.title)}**{escaped(wins)}"
    yield from (f"   - {label}: {escaped(text)}" for label, text in finding.lines)
