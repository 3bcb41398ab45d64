"""How long text and long lists become short lines; shared by the outputs that people read."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from shardprof.words import printable

_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|\w?s\b|\w?B\b)")
_NO_BREAK = "\u00a0"


def cut(text: str, most: int) -> str:
    """The text in at most so many characters; what is longer ends in "…"."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def pack(fields: Sequence[str], separator: str, width: int) -> list[str]:
    """The fields in as few lines of at most `width` characters as keeps each field whole."""
    lines: list[str] = []
    for field in fields:
        if lines and len(lines[-1]) + len(separator) + len(field) <= width:
            lines[-1] += separator + field
        else:
            lines.append(field)
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Printable text in lines of at most `width` characters, a figure and its unit on one line."""
    glued = _BEFORE_UNIT.sub(_NO_BREAK, printable(text))
    lines = textwrap.wrap(glued, width, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]
