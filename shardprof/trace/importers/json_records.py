"""The objects in a file of JSON that grows while a job runs: one behind another, with or without a list around them.

What NCCL's profilers write in them is bounded here, too, so that sums and products of it fit into 64 bits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from shardprof.errors import UnreadableTraceError
from shardprof.trace.unpacked import text_blocks

Number = Annotated[int, Meta(ge=0, le=1 << 62)]
Size = Annotated[int, Meta(ge=0, le=1 << 42)]
Microseconds = Annotated[int, Meta(ge=0, le=1 << 52)]
Rank = Annotated[int, Meta(ge=0, lt=1 << 20)]
Ranks = Annotated[int, Meta(ge=1, le=1 << 20)]
Hash = Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{1,16}$")]
"""Of a communicator."""

Form = TypeVar("Form")

_MOST_PIECE_BYTES = 256 << 20
_HEAD_BYTES = 256 << 10
_BEGIN = re.compile(rb"\n(?=\{)")
_GAP = re.compile(r"[\s,\[\]]*")
_DECODER = json.JSONDecoder()


def json_records(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects, one at a time. What is torn is left out, up to the next line that begins with one. Raises
    UnreadableTraceError where one line is too long to be held."""
    for piece in _pieces(blocks):
        yield from _objects(piece.decode("utf-8", "replace"))


def records_of(form: type[Form], blocks: Iterable[bytes]) -> Iterator[Form]:
    """The objects that have this form. Raises as `json_records` does."""
    return (record for value in json_records(blocks) if (record := in_form(form, value)) is not None)


def in_form(form: type[Form], value: object) -> Form | None:
    """A value as a msgspec.Struct of this form; None where it is damaged."""
    try:
        return msgspec.convert(value, form)
    except (msgspec.ValidationError, UnicodeError, RecursionError):
        return None


def head_of(path: Path) -> bytes:
    """The first text of a file, plain or gzip, to tell its format by; empty where it cannot be read."""
    head = b""
    try:
        for block in text_blocks(path):
            head += block
            if len(head) >= _HEAD_BYTES:
                break
    except (OSError, UnreadableTraceError):
        return b""
    return head[:_HEAD_BYTES]


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The text, cut before each object that begins a line: at such a place a reader can start anew."""
    piece: list[bytes] = []
    line_end = b""
    for block in blocks:
        first, *others = _BEGIN.split(line_end + block)
        piece.append(first)
        for other in others:
            yield b"".join(piece)
            piece = [other]
        if sum(map(len, piece)) > _MOST_PIECE_BYTES:
            raise UnreadableTraceError(f"a line is longer than {_MOST_PIECE_BYTES:,} bytes", "split it: jq -c '.[]'")
        line_end = b"\n" if block.endswith(b"\n") else b""
    yield b"".join(piece)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    at = _end_of_gap(text, 0)
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            yield value
        at = _end_of_gap(text, end)


def _end_of_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at
