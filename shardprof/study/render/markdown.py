"""A study's report as Markdown: tables that fit a page of documentation. The same words as in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shardprof.render._markup import escaped, paragraph, table, write
from shardprof.study.conclusions.study_report import StudyReport
from shardprof.study.render._section import Section
from shardprof.study.render._view import View, view_of


def render(report: StudyReport, out: TextIO) -> None:
    """Write the report to `out`."""
    write(out, _lines(view_of(report)))


def _lines(view: View) -> Iterator[str]:
    yield f"# {escaped(view.title)}"
    yield from paragraph([escaped(" · ".join(view.about))])
    yield from paragraph([f"**{escaped(' '.join(view.answer))}**"])
    yield from paragraph([escaped(view.sureness)])
    for section in view.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield from ("", f"## {escaped(section.title)}")
    yield from paragraph([f"- {escaped(line)}" for line in section.lines])
    for title, shown in section.tables:
        yield from paragraph([f"**{escaped(title)}**"] if title else [])
        yield from table(shown)
    yield from paragraph([escaped("; ".join(section.remarks))])
