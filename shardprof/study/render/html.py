"""A study's report as one HTML page: no script, no network, charts beside the tables that they are drawn from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from html import escape
from typing import TextIO

from shardprof.render._tables import Table
from shardprof.study.conclusions.study_report import DOES_NOT_HOLD, HOLDS, StudyReport
from shardprof.study.render._section import Section
from shardprof.study.render._style import CSS
from shardprof.study.render._svg import figure
from shardprof.study.render._view import View, view_of
from shardprof.words import printable

_LONG = 40
"""From so many characters on, words in a table are wrapped."""


def render(report: StudyReport, out: TextIO) -> None:
    """Write the report to `out`."""
    for line in _page(view_of(report)):
        out.write(line + "\n")


def _page(view: View) -> Iterator[str]:
    title = _text(f"{view.title}: FSDP and DeepSpeed")
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{CSS}</style></head><body>"
    yield f"<header><h1>{title}</h1>"
    yield f'<p class="about">{" ".join(f"<span>{_text(fact)}</span>" for fact in view.about)}</p>'
    yield f'<div class="answer">{"".join(f"<p>{_text(sentence)}</p>" for sentence in view.answer)}'
    yield f'<p class="dim">{_text(view.sureness)}</p></div></header><main>'
    numbers = itertools.count(1)
    for section in view.sections:
        yield from _section(section, numbers)
    yield "</main></body></html>"


def _text(text: str) -> str:
    return escape(printable(text))


def _section(section: Section, numbers: Iterator[int]) -> Iterator[str]:
    yield f"<section><h2>{_text(section.title)}</h2>"
    if section.lines:
        yield f'<ul class="lines">{"".join(f"<li>{_text(line)}</li>" for line in section.lines)}</ul>'
    if section.charts:
        yield '<div class="charts">'
        for chart in section.charts:
            yield from figure(chart, next(numbers))
        yield "</div>"
    folded = section.detail or bool(section.charts)
    if folded and section.tables:
        yield f"<details><summary>{'All figures' if section.charts else 'Details'}</summary>"
    for title, table in section.tables:
        yield from _table(title, table)
    if folded and section.tables:
        yield "</details>"
    if section.remarks:
        yield f'<p class="notes">{_text("; ".join(section.remarks))}</p>'
    yield "</section>"


def _table(title: str, table: Table) -> Iterator[str]:
    if title:
        yield f"<h3>{_text(title)}</h3>"
    kind = "wordy" if any(len(cell) > _LONG for row in table.rows for cell in row) else "figures"
    yield f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>'
    yield "".join(f"<th{_classes(table, column)}>{_text(column)}</th>" for column in table.columns)
    yield "</tr></thead><tbody>"
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        shown = (f"<td{_classes(table, column, cell)}>{_marked(cell)}</td>" for column, cell in cells)
        yield f"<tr>{''.join(shown)}</tr>"
    yield "</tbody></table></div>"


def _classes(table: Table, column: str, cell: str = "") -> str:
    names = ["words"] * (column in table.words) + ["long"] * (column in table.words and len(cell) > _LONG)
    return f' class="{" ".join(names)}"' if names else ""


def _marked(cell: str) -> str:
    """A verdict in its colour."""
    for verdict, name in ((HOLDS, "holds"), (DOES_NOT_HOLD, "refuted")):
        if cell == verdict or cell.startswith(f"{verdict} ("):
            return f'<span class="{name}">{_text(cell)}</span>'
    return _text(cell)
