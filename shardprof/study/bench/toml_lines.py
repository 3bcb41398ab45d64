"""On which line of a TOML text a table or a key stands, for messages about it.

Places are written as ".study.steps" and ".exclude[0].ranks".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from itertools import accumulate

_PART = r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[\w-]+'
_NAME = rf"(?:{_PART})(?:\s*\.\s*(?:{_PART}))*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_NAME})\s*\]")
_KEY = re.compile(rf"\s*({_NAME})\s*=")
_LAST = re.compile(r"(\.[^.\[\]]+|\[[^\[\]]*\]|.)$", re.DOTALL)


def lines_of(text: str) -> dict[str, int]:
    """The line of each table and key, by its place; of what is told by parts, that of the first."""
    lines: dict[str, int] = {}
    tables = Counter[str]()
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = "".join(_parts(header[2]))
            table = f"{name}[{tables[name]}]" if header[1] == "[[" else name
            tables[name] += 1
            lines[table] = number
        elif key := _KEY.match(line):
            for place in accumulate(_parts(key[1]), initial=table):
                lines.setdefault(place, number)
    return lines


def line_at(place: str, lines: dict[str, int]) -> int:
    """Of the innermost part of the place that has one; 1 where none has."""
    while place:
        if place in lines:
            return lines[place]
        place = _LAST.sub("", place)
    return 1


def _parts(name: str) -> list[str]:
    return [f".{_unquoted(part)}" for part in re.findall(_PART, name)]


def _unquoted(part: str) -> str:
    if part[0] == '"':
        with suppress(ValueError):
            return str(json.loads(part))
    return part.strip("\"'")
