"""The captured events of one process, of one or several traces, as tracks of the timeline."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from shardprof.trace.timeline.capture import Capture, Track
from shardprof.trace.timeline.lanes import Lanes
from shardprof.trace.timeline.writer import TimelineWriter

_NUMBER = re.compile(r"-?\d{1,20}")
_DEVICES, _PROCESSES, _PROFILER = range(3)
_LAST = 1 << 62


@dataclass(slots=True)
class _Place:
    """Where the events of a track go: its process and its lanes, of which the first is its thread."""

    process: int
    name: str
    threads: list[int]
    lanes: Lanes = field(default_factory=Lanes)


class CapturedTracks:
    """Tracks for the events of `captures`, in processes whose names begin with `title`: devices come first, then
    threads of the process, then what the profiler says of itself. A `name` takes the place of theirs."""

    def __init__(self, writer: TimelineWriter, title: str, captures: Sequence[Capture], name: str = "") -> None:
        self._writer = writer
        self._captures = captures
        self._names = {key: name for capture in captures for key, name in capture.names.items()}
        self._places: dict[Track, _Place] = {}
        processes: dict[str, int] = {}
        for track in sorted({track for capture in captures for track in capture.tracks}, key=self._order):
            whole = f"{title} · {name or self._process_name(track[0])}"
            if whole not in processes:
                processes[whole] = writer.process(whole)
            self._places[track] = self._place(track, processes[whole])

    def write(self) -> None:
        """Write the events, in the order of time."""
        for event in heapq.merge(*self._captures, key=attrgetter("order")):
            place = self._places[event.track]
            lane = place.lanes.last
            if event.duration_ns is not None:
                lane = place.lanes.place(event.begin_ns, event.begin_ns + event.duration_ns)
                if lane == len(place.threads):
                    name = f"{place.name} (overlapping)"
                    place.threads.append(self._writer.lane(place.process, place.threads[0], name, lane))
            self._writer.captured(place.process, place.threads[lane], event)

    def _place(self, track: Track, process: int) -> _Place:
        name = self._names.get(("thread_name", track), "").strip() or f"thread {track[1]}".strip()
        return _Place(process, name, [self._writer.thread(process, name)])

    def _process_name(self, process: str) -> str:
        if self._kind(process) == _PROFILER:
            return "profiler"
        return self._label(process) or self._names.get(("process_name", (process, ""))) or f"process {process}"

    def _kind(self, process: str) -> int:
        if not _NUMBER.fullmatch(process):
            return _PROFILER
        return _DEVICES if self._label(process).startswith("GPU") else _PROCESSES

    def _order(self, track: Track) -> tuple[int, int, int, int, Track]:
        process, thread = track
        told = self._names.get(("thread_sort_index", track), "")
        return self._kind(process), _number(process), _number(told), _number(thread), track

    def _label(self, process: str) -> str:
        return self._names.get(("process_labels", (process, "")), "")


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else _LAST
