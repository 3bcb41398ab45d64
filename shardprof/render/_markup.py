"""How words and figures become Markdown that says no more than they do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from shardprof.render._tables import Table
from shardprof.words import printable

_ACTIVE = re.compile(r"([\\`*_\[\]<>|~&$]|:(?=//)|(?<=www)\.)")
_MENTION = re.compile(r"([@#])")
_FENCE = re.compile("`+")


def write(out: TextIO, lines: Iterable[str]) -> None:
    """Write lines to `out`; what UTF-8 has and the output's encoding has not becomes "?"."""
    encoding = out.encoding or "utf-8"
    for line in lines:
        out.write((line + "\n").encode(encoding, "replace").decode(encoding))


def paragraph(lines: Sequence[str]) -> list[str]:
    """Lines of which at least one says something, after an empty one."""
    return ["", *lines] if any(lines) else []


def table(shown: Table) -> Iterator[str]:
    """A table of figures, after an empty line."""
    yield ""
    yield _row(shown.columns)
    yield "|" + "|".join(":--" if column in shown.words else "--:" for column in shown.columns) + "|"
    yield from (_row(row) for row in shown.rows)


def with_notes(shown: Table) -> Iterator[str]:
    """A table with the notes on its columns below."""
    yield from table(shown)
    yield from paragraph([escaped("; ".join(shown.notes))])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def escaped(text: str) -> str:
    """Text that Markdown does not take for markup, a link, HTML or (with the comment) someone to be notified."""
    return _MENTION.sub(r"\1<!-- -->", _ACTIVE.sub(r"\\\1", printable(text)))


def code(text: str) -> str:
    """Text as inline code, inside more backticks than it holds."""
    fence = "`" * (1 + max((len(run) for run in _FENCE.findall(text)), default=0))
    return f"{fence} {printable(text)} {fence}" if len(fence) > 1 else f"`{printable(text)}`"
