"""The events in the text of a trace, some at a time, and the members around them; the whole text is never in memory.

As many whole events as have arrived are decoded in one go. Where that fails, because one is damaged or because they
end there, each is decoded by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from shardprof.errors import UnreadableTraceError

_MOST_BYTES = 64 << 20
"""Of what comes before the events, or after them."""
_MOST_EVENT_BYTES = 16 << 20
_TRIES = 4
_TRIED_BYTES = 1 << 20
_PIECES = 64
"""What looks like the end of an event may lie inside it: how often, before it is taken for damaged."""

_OPENING = re.compile(rb'\A\s*\[|"traceEvents"\s*:\s*\[')
_CLOSING = re.compile(rb"(?:\A|(?<=\}))\s*\]")
_GAP = re.compile(rb"(?<=\})\s*,\s*(?=\{)")
_BASE = re.compile(rb'"baseTimeNanoseconds"\s*:\s*(\d{1,19})\b')
_NOT_AVAILABLE = re.compile(r"([:,\[]\s*)N/A(?=\s*[,}\]])")


class Event(msgspec.Struct, omit_defaults=True):
    """An event, with the members that Kineto writes; what nobody looks at stays the text that it is."""

    ph: str
    cat: Raw | UnsetType = UNSET
    name: Raw | UnsetType = UNSET
    flow: Raw | UnsetType = msgspec.field(default=UNSET, name="id")
    bp: Raw | UnsetType = UNSET
    s: Raw | UnsetType = UNSET
    pid: Raw | UnsetType = UNSET
    tid: Raw | UnsetType = UNSET
    ts: Raw | UnsetType = UNSET
    dur: Raw | UnsetType = UNSET
    args: Raw | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(list[Event])


class TraceText:
    """One trace, by the blocks of its text. What stands around its events is known once all of them were taken."""

    def __init__(self, blocks: Iterator[bytes], name: str) -> None:
        self._blocks = blocks
        self._name = name
        self._around = b""
        self._is_over = False
        self.lost_events = 0

    def events(self) -> Iterator[list[Event]]:
        """All events, some at a time. Raises UnreadableTraceError for what is no trace."""
        text = self._opened()
        while not self._is_over:
            block = next(self._blocks, b"")
            text += block
            events, text = self._taken(text) if block else self._each(text, is_all=True)
            yield events
            if len(text) > _MOST_EVENT_BYTES:
                raise UnreadableTraceError(f"{self._name} holds an event without an end", "look into the file")
            if not block and not self._is_over:
                self._end(b"}")

    def members(self) -> dict[str, Any]:
        """What stands around the events; nothing where it is damaged."""
        try:
            text = _NOT_AVAILABLE.sub(r"\1null", self._around.decode(errors="replace"))
            found = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def base_ns(self) -> int:
        """What the events' times are relative to, since the epoch."""
        base = _BASE.search(self._around)
        return int(base[1]) if base else 0

    def _opened(self) -> bytes:
        """The text behind the bracket that opens the events."""
        text = b""
        while not (opening := _OPENING.search(text)):
            block = next(self._blocks, b"")
            if not block or len(text) > _MOST_BYTES:
                hint = "a trace is a Chrome trace of torch.profiler (.json or .json.gz), or a folder of them"
                raise UnreadableTraceError(f"{self._name} is not readable as a trace", hint)
            text += block
        self._around = text[: opening.end()]
        return text[opening.end() :]

    def _taken(self, text: bytes) -> tuple[list[Event], bytes]:
        """The events that have arrived, and the text behind them."""
        for gap in islice(_gaps_from_the_end(text), _TRIES):
            if (events := _decoded(text[: gap.start()])) is not None:
                return events, text[gap.end() :]
        return self._each(text, is_all=False)

    def _each(self, text: bytes, *, is_all: bool) -> tuple[list[Event], bytes]:
        """The same, event by event; where `is_all` no further text will come."""
        gaps = list(_GAP.finditer(text))
        begins = [0, *(gap.end() for gap in gaps), len(text)]
        ends = [*(gap.start() for gap in gaps), *([len(text)] if is_all else [])]
        events: list[Event] = []
        at = 0
        while at < len(ends) and not self._is_over:
            found, pieces = self._first(text, begins[at], ends[at : at + _PIECES])
            if found is None and not is_all and at + _PIECES > len(ends):
                break  # there may be more of it
            self.lost_events += found is None
            events += found or []
            at += pieces
        return events, text[begins[at] :]

    def _first(self, text: bytes, begin: int, ends: list[int]) -> tuple[list[Event] | None, int]:
        """The event that begins there, None where it is damaged, and which of the ends is its own."""
        for pieces, end in enumerate(ends, 1):
            if (found := _decoded(text[begin:end])) is not None:
                return found, pieces
            if (closed := _before_closing(text[begin:end])) is not None:
                found, behind = closed
                self._end(behind + text[end:])
                return found, pieces
            if not _goes_on(text[begin:end]):
                break
        return _mended(text[begin : ends[0]]), 1

    def _end(self, behind: bytes) -> None:
        """The events are over; `behind` begins what follows their bracket."""
        self._is_over = True
        blocks = [behind]
        while sum(map(len, blocks)) < _MOST_BYTES and (block := next(self._blocks, b"")):
            blocks.append(block)
        self._around += b"]" + b"".join(blocks)


def _gaps_from_the_end(text: bytes) -> Iterator[re.Match[bytes]]:
    """What looks like the space between two events, the last first."""
    at, first = len(text), max(0, len(text) - _TRIED_BYTES)
    while (at := text.rfind(b"}", first, at)) >= 0:
        if gap := _GAP.match(text, at + 1):
            yield gap


def _decoded(text: bytes) -> list[Event] | None:
    """The events that the text consists of; None where it does not, as where it ends inside of one."""
    try:
        return _DECODER.decode(b"[" + _as_utf8(text) + b"]")
    except (msgspec.MsgspecError, RecursionError):
        return None


def _goes_on(piece: bytes) -> bool:
    """Whether it is sound as far as it goes."""
    try:
        _DECODER.decode(b"[" + _as_utf8(piece))
    except (msgspec.MsgspecError, RecursionError) as error:
        return "truncated" in str(error)
    return False


def _before_closing(piece: bytes) -> tuple[list[Event], bytes] | None:
    """The events before the bracket that ends them all, and what follows it; None where there is no such bracket."""
    for bracket in islice(_CLOSING.finditer(piece), _TRIES):
        if (events := _decoded(piece[: bracket.start()])) is not None:
            return events, piece[bracket.end() :]
    return None


def _mended(piece: bytes) -> list[Event] | None:
    """An event with what JSON does not know, such as NaN or control characters; None where that is not all."""
    try:
        text = _NOT_AVAILABLE.sub(r"\1null", piece.decode(errors="replace"))
        value = json.loads(text, strict=False, parse_float=_as_it_is, parse_constant=lambda _: None)
        return _DECODER.decode(msgspec.json.encode([value]))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def _as_it_is(number: str) -> Raw:
    return Raw(number.encode())


def _as_utf8(text: bytes) -> bytes:
    return text if text.isascii() else text.decode(errors="replace").encode()
