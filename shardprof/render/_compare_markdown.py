"""A comparison as Markdown tables, to paste into a pull request: the same words as in the terminal, without bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render._compare_view import CompareView, compare_view
from shardprof.render._markup import code, escaped, paragraph, table, with_notes, write
from shardprof.render._tables import Table


def render(comparison: Comparison, out: TextIO) -> None:
    """Write the comparison."""
    write(out, _lines(compare_view(comparison)))


def _lines(view: CompareView) -> Iterator[str]:
    yield f"### shardprof compare: {escaped(view.title)}"
    yield from paragraph([f"- {name}: {escaped(about)}" for name, about in view.sides])
    yield from paragraph([f"**{escaped(view.verdict)}**"])
    yield from paragraph([escaped(view.warning)])
    if view.steps:
        yield from with_notes(view.steps)
    if view.waterfall:
        rows = tuple((bar.label, bar.figure) for bar in view.waterfall)
        yield from table(Table(columns=("mean step", "change"), rows=rows, words=frozenset({"mean step"})))
        yield from paragraph([escaped(view.waterfall_note)])
    for shown in view.tables:
        yield from with_notes(shown)
    remarks = [f"- {label}: {escaped(line)}" for label, lines in view.remarks for line in lines]
    commands = [f"- next: {code(command)} {escaped(why)}" for command, why in view.next_commands]
    yield from paragraph([*remarks, *commands])
