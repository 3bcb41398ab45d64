"""A timeline that was written, as tests ask it: names in the place of numbers, times in Unix time."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Slice:
    """A slice of the timeline, at Unix time."""

    process: str
    track: int
    name: str
    begin_ns: int
    end_ns: int
    args: dict[str, Any]


class Written:
    """A timeline that was written, with names in the place of numbers."""

    def __init__(self, path: Path) -> None:
        self.whole = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
        self.events: list[dict[str, Any]] = self.whole["traceEvents"]
        self.names = self._told("process_name", "name")
        self.threads = self._told("thread_name", "name")

    def _told(self, what: str, argument: str) -> dict[int, Any]:
        key = "pid" if what.startswith("process") else "tid"
        return {event[key]: event["args"][argument] for event in self.events if event["name"] == what}

    def of(self, *phases: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["ph"] in phases]

    def ns(self, event: dict[str, Any]) -> int:
        return int(event["ts"] * 1000) + int(self.whole["baseTimeNanoseconds"])

    def slices(self) -> list[Slice]:
        """Those of events and records; what the timeline adds stands on tracks of its own."""
        added = {thread for thread, name in self.threads.items() if name in ("phases", "findings") or "classes" in name}
        return [one for one in self.all_slices() if one.track not in added]

    def all_slices(self) -> list[Slice]:
        return [
            Slice(
                self.names[event["pid"]], event["tid"], event["name"],
                self.ns(event), self.ns(event) + int(event["dur"] * 1000), event.get("args", {}),
            )
            for event in self.of("X")
        ]  # fmt: skip

    def counters(self) -> dict[tuple[str, str], list[tuple[int, Any]]]:
        found = defaultdict(list)
        for event in self.of("C"):
            ((unit, value),) = event["args"].items()
            found[self.names[event["pid"]], f"{event['name']} {unit}".strip()].append((self.ns(event), value))
        return found

    def in_order(self) -> list[tuple[str, str]]:
        """Process and thread of all tracks, as a viewer shows them."""
        processes, threads = (
            self._told("process_sort_index", "sort_index"),
            self._told("thread_sort_index", "sort_index"),
        )
        of_thread = {event["tid"]: event["pid"] for event in self.events if event["name"] == "thread_name"}
        tracks = sorted(of_thread, key=lambda thread: (processes[of_thread[thread]], threads[thread]))
        return [(self.names[of_thread[track]], self.threads[track]) for track in tracks]


def assert_nested(slices: Sequence[Slice]) -> None:
    tracks = defaultdict(list)
    for one in slices:
        tracks[one.track].append(one)
    for track in tracks.values():
        open_ends: list[int] = []
        for one in track:
            while open_ends and open_ends[-1] <= one.begin_ns:
                open_ends.pop()
            assert not open_ends or one.end_ns <= open_ends[-1], one
            open_ends.append(one.end_ns)
        assert [(one.begin_ns, -one.end_ns) for one in track] == sorted((one.begin_ns, -one.end_ns) for one in track)
