"""The captured events of one rank, of one or several traces, as tracks of the timeline."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from shardprof.trace.timeline.capture import Capture, Captured, Track
from shardprof.trace.timeline.flows import Flows, Met, Place
from shardprof.trace.timeline.lanes import Lanes
from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import TimelineWriter

_NUMBER = re.compile(r"-?\d{1,20}")
_LAST = 1 << 62
_SAYS_NOTHING = re.compile(r"(thread) (\d+) \(python[\d.]*\)")


@dataclass(slots=True)
class _Place:
    """Where the events of a track go: its process and its lanes, of which the first is its thread."""

    process: int
    name: str
    threads: list[int]
    key: str
    lanes: Lanes = field(default_factory=Lanes)


class CapturedTracks:
    """Tracks for the events of `captures`: streams first, in the order of what they do, then threads, then what the
    profiler says of itself. `home` says which process of the timeline those of a process in the traces belong to,
    `known` of tracks ("pid/tid") where they stand and what they are for."""

    def __init__(
        self,
        writer: TimelineWriter,
        home: Callable[[str], int],
        captures: Sequence[Capture],
        known: Mapping[str, tuple[int, str]],
    ) -> None:
        self._writer = writer
        self._captures = captures
        self._known = known
        self._names = {key: name for capture in captures for key, name in capture.names.items()}
        tracks = sorted({track for capture in captures for track in capture.tracks}, key=self._order)
        self._places = {track: self._place(track, home(track[0])) for track in tracks}

    def write(self, met: Mapping[Place, Met], flows: Flows) -> None:
        """Write the events, in the order of time. `met` are the slices that are a collective of several ranks, whose
        arrows go to `flows`."""
        for event in heapq.merge(*self._captures, key=attrgetter("order")):
            place = self._places[event.track]
            if event.duration_ns is None:
                self._writer.captured(place.process, place.threads[place.lanes.last], event, {})
            else:
                self._slice(place, event, event.begin_ns + event.duration_ns, met, flows)

    def _slice(self, place: _Place, event: Captured, end_ns: int, met: Mapping[Place, Met], flows: Flows) -> None:
        lane = place.lanes.place(event.begin_ns, end_ns)
        if lane == len(place.threads):
            name = f"{place.name} (overlapping)"
            place.threads.append(self._writer.lane(place.process, place.threads[0], name, lane))
        part = met.get((place.key, event.begin_ns, end_ns))
        self._writer.captured(place.process, place.threads[lane], event, part.arguments() if part else {})
        if part:
            time_ns = self._writer.own_time(place.process, event.begin_ns)
            flows.add(part.collective, time_ns, place.process, place.threads[lane])

    def _place(self, track: Track, process: int) -> _Place:
        name, key = self._name(track), "/".join(track)
        return _Place(process, name, [self._writer.thread(process, name, self._shelf(track))], key)

    def _name(self, track: Track) -> str:
        told = self._names.get(("thread_name", track), "").strip() or f"thread {track[1]}".strip()
        plain = _SAYS_NOTHING.sub(r"\1 \2", told)
        if not _NUMBER.fullmatch(track[0]):
            return f"profiler · {plain}"
        _, meaning = self._known.get("/".join(track), (0, ""))
        return f"{meaning} · {plain}" if meaning else plain

    def _order(self, track: Track) -> tuple[int, int, int, int, Track]:
        process, thread = track
        told = self._names.get(("thread_sort_index", track), "")
        return self._shelf(track), _number(process), _number(told), _number(thread), track

    def _shelf(self, track: Track) -> int:
        if not _NUMBER.fullmatch(track[0]):
            return Shelf.PROFILER
        shelf, _ = self._known.get("/".join(track), (Shelf.OTHER, ""))
        return shelf


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else _LAST
