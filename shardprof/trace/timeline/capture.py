"""One trace file in the order of time: events without times and tracks, and those beside them as numbers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec
from msgspec import UNSET, Raw, UnsetType

from shardprof.trace.files import Place
from shardprof.trace.timeline.sorted_rows import RowStore, SortedRows
from shardprof.trace.timeline.trace_text import Event, TraceText
from shardprof.trace.unpacked import text_blocks

Track = tuple[str, str]
"""A process and a thread, as the trace calls them."""

_MOST_US = 1 << 52
_NEVER_NS = 1 << 62
_FAR_NS = 3600 * 10**9  # no trace lasts an hour: what begins at 0 while all else is later has lost its time
_MOST_DIGITS = 40
_FLOW_BITS = 40
_NOT_A_SLICE = 1
_OF_ITS_THREAD = Raw(b'"t"')
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Captured:
    """An event but for its place: `body` is the rest of its JSON object. `duration_ns` is None unless it is a slice.
    `begin_ns` is since the epoch, on the rank's own clock."""

    begin_ns: int
    duration_ns: int | None
    track: Track
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        """By time; of what begins together the longest slice first, then what points at slices."""
        return self.begin_ns, _NOT_A_SLICE if self.duration_ns is None else -self.duration_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Which events of a trace are wanted: those inside of `windows`, merged and on the trace's clock, and of
    `categories`, with no arrows; None for all."""

    windows: Sequence[tuple[int, int]] | None = None
    categories: frozenset[str] | None = None

    def takes(self, phase: str, category: str) -> bool:
        """Whether events of this kind are wanted."""
        return self.categories is None or (phase == "X" and category in self.categories)

    def holds(self, begin_ns: int, end_ns: int) -> bool:
        """Whether events of this time are wanted."""
        return self.windows is None or any(begin_ns < last and first <= end_ns for first, last in self.windows)


ALL = Kept()


class Capture:
    """A trace, read once. `number` tells its flows from those of other traces.

    `names` holds what its metadata say of a track ("thread_name", "thread_sort_index") or, with an empty thread, of a
    process ("process_name", "process_labels"); `members` is what stands around its events. Raises
    UnreadableTraceError for what is no trace, OSError where reading fails.
    """

    def __init__(self, file: Place, number: int, store: RowStore, kept: Kept = ALL) -> None:
        self._kept = kept
        self.names: dict[tuple[str, Track], str] = {}
        self._number = number
        self._tracks: dict[Track, int] = {}
        self._rows = SortedRows(store)
        self._zeros = 0
        self._lost = 0
        self._first_ns = _NEVER_NS
        text = TraceText(text_blocks(file), str(file))
        for events in text.events():
            for event in events:
                self._take(event)
        self._rows.finish()
        self.members = text.members()
        self._base_ns = text.base_ns()
        self._has_lost_times = _FAR_NS < self._first_ns < _NEVER_NS
        self.lost_events = text.lost_events + self._lost + self._zeros * self._has_lost_times

    @property
    def tracks(self) -> list[Track]:
        """Those with events."""
        return list(self._tracks)

    def __iter__(self) -> Iterator[Captured]:
        tracks = self.tracks
        for begin_ns, second, track, body in self._rows:
            if begin_ns != 0 or not self._has_lost_times:
                duration_ns = None if second == _NOT_A_SLICE else -second
                yield Captured(self._base_ns + begin_ns, duration_ns, tracks[track], body)

    def _take(self, event: Event) -> None:
        track = _text(event.pid), _text(event.tid)
        if event.ph == "M":
            self._name(event, track)
            return
        if not self._kept.takes(event.ph, _text(event.cat)):
            return
        times = _times_ns(event)
        if times is None:
            self._lost += 1
            return
        begin_ns, end_ns = times
        if not self._kept.holds(begin_ns, end_ns):
            return
        if event.ph == "C" and not _make_countable(event):
            self._lost += 1
            return
        self._zeros += begin_ns == 0
        self._first_ns = min(self._first_ns, begin_ns or _NEVER_NS)
        event.pid = event.tid = event.ts = event.dur = UNSET
        if event.s is not UNSET:  # an instant: on its own track, also where it was to mark all processes
            event.s = _OF_ITS_THREAD
        if event.flow is not UNSET:
            event.flow = self._flow(_text(event.flow))
        second = begin_ns - end_ns if event.ph == "X" else _NOT_A_SLICE
        self._rows.add((begin_ns, second, self._tracks.setdefault(track, len(self._tracks)), _encode(event)))

    def _name(self, event: Event, track: Track) -> None:
        """Metadata hold one argument, whatever it is called."""
        arguments = msgspec.json.decode(event.args) if event.args is not UNSET else None
        if isinstance(arguments, dict) and arguments:
            what = _text(event.name)
            self.names[what, (track[0], "") if what.startswith("process") else track] = str(
                next(iter(arguments.values()))
            )

    def _flow(self, name: str) -> Raw:
        number = int(name) if name.isascii() and name.isdecimal() and len(name) < _MOST_DIGITS else -1
        if not 0 <= number < 1 << _FLOW_BITS:
            number = zlib.crc32(name.encode())
        return Raw(b"%d" % ((self._number << _FLOW_BITS) + number))


def _make_countable(event: Event) -> bool:
    """Leave a counter its numbers: whether it has any. Viewers take nothing else."""
    values = msgspec.json.decode(event.args) if event.args is not UNSET else None
    numbers = {name: value for name, value in values.items() if _is_number(value)} if isinstance(values, dict) else {}
    event.args = Raw(_encode(numbers))
    return bool(numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Raw | UnsetType) -> str:
    """A name or a number, as text."""
    return "" if value is UNSET else bytes(value).decode().strip('"')


def _times_ns(event: Event) -> tuple[int, int] | None:
    """Begin and end; what is beyond the nanosecond is dropped at the end only, so that slices still nest."""
    try:
        begin_us = Decimal(_text(event.ts))
        end_us = begin_us + Decimal(_text(event.dur) or 0 if event.ph == "X" else 0)
        if not -_MOST_US < begin_us <= end_us < _MOST_US:
            return None
    except InvalidOperation:  # no numbers
        return None
    return int(begin_us * 1000), int(end_us * 1000)
