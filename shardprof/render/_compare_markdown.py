"""A comparison as Markdown tables, to paste into a pull request: the same words as in the terminal, without bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render._compare_view import CompareView, compare_view
from shardprof.render._tables import Table
from shardprof.render.markdown import _code, _escaped, _paragraph, _table


def render(comparison: Comparison, out: TextIO) -> None:
    """Write the comparison to `out`; what UTF-8 has and the output's encoding has not becomes "?"."""
    encoding = out.encoding or "utf-8"
    for line in _lines(compare_view(comparison)):
        out.write((line + "\n").encode(encoding, "replace").decode(encoding))


def _lines(view: CompareView) -> Iterator[str]:
    yield f"### shardprof compare: {_escaped(view.title)}"
    yield from _paragraph([f"- {name}: {_escaped(about)}" for name, about in view.sides])
    yield from _paragraph([f"**{_escaped(view.verdict)}**"])
    yield from _paragraph([_escaped(view.warning)])
    if view.steps:
        yield from _with_notes(view.steps)
    if view.waterfall:
        rows = tuple((bar.label, bar.figure) for bar in view.waterfall)
        yield from _table(Table(columns=("mean step", "change"), rows=rows, words=frozenset({"mean step"})))
        yield from _paragraph([_escaped(view.waterfall_note)])
    for table in view.tables:
        yield from _with_notes(table)
    remarks = [f"- {label}: {_escaped(line)}" for label, lines in view.remarks for line in lines]
    commands = [f"- next: {_code(command)} {_escaped(why)}" for command, why in view.next_commands]
    yield from _paragraph([*remarks, *commands])


def _with_notes(table: Table) -> Iterator[str]:
    yield from _table(table)
    yield from _paragraph([_escaped("; ".join(table.notes))])
