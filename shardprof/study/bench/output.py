"""What a job printed, read after it has ended: the end of it, without what it told a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_TAIL_BYTES = 256 * 1024
_LONGEST = 300
_TERMINALS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?)")
_PARTING = re.compile(r"shardprof: (?:recording|recorded|no step end was seen|next:)|Connection to \S+ closed")
"""What recording and ssh say whatever happened."""


def tail_of(path: Path) -> str:
    """The end of a file; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return text_of(file.read())
    except OSError:
        return ""


def text_of(printed: bytes) -> str:
    """Without colours and titles of a terminal."""
    return _TERMINALS.sub("", printed.decode(errors="replace"))


def last_words(texts: Sequence[str]) -> str:
    """The last line that tells something; "" where there is none."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return clipped(next((line for line in reversed(lines) if line and not _PARTING.match(line)), ""))


def clipped(text: str) -> str:
    """In a length that a table can hold."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
