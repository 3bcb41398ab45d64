"""`shardprof timeline` of recorded jobs: all that the run folder holds is in it, and a viewer drops nothing of it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import COUNTERS_FILE, CounterRecord, read_lines

pytestmark = pytest.mark.integration

Event = dict[str, Any]


@dataclass(frozen=True)
class Timeline:
    """A timeline that was written: its events with `begin_ns` in Unix time, what its processes and the tracks that it
    adds to events are called."""

    events: list[Event]
    names: dict[int, str]
    added: set[int]

    def of(self, phase: str, process: str) -> list[Event]:
        """The events of the processes whose names begin so."""
        return [e for e in self.events if e["ph"] == phase and f"{self.names[e['pid']]} ".startswith(f"{process} ")]

    def of_traces(self, process: str) -> list[Event]:
        """The slices of one that come from traces and records."""
        return [event for event in self.of("X", process) if event["tid"] not in self.added]


def events_of(file: Path) -> list[Event]:
    data = file.read_bytes()
    trace = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data, parse_float=Decimal)
    base_ns = trace["baseTimeNanoseconds"]
    return [{**event, "begin_ns": base_ns + int(event.get("ts", 0) * 1000)} for event in trace["traceEvents"]]


def slices_of(events: list[Event]) -> Counter[tuple[str, int, int]]:
    return Counter((e["name"], e["begin_ns"], int(e["dur"] * 1000)) for e in events if e["ph"] == "X")


@pytest.fixture(scope="module")
def timeline(marks: Any, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """That of the job whose ranks are all kinds of small trainings."""
    out = tmp_path_factory.mktemp("timeline") / "all.json.gz"
    command = [sys.executable, "-m", "shardprof", "timeline", str(marks.recorded.folder.root), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(f"timeline: {out} (")
    assert done.stderr == ""
    events = events_of(out)
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return Timeline(
        events=events,
        names={e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"},
        added={thread for thread, name in threads.items() if name == "phases" or name.endswith("step classes")},
    )


def test_every_captured_event_and_every_step_is_there_once(marks: Any, timeline: Timeline) -> None:
    windows_of_users = 0
    for rank in marks.rank_of.values():
        folder, record = marks.recorded.folder.rank(rank), marks.recorded.rank(rank)
        users = [Path(window.file) for window in record.windows if window.profiler == "user"]
        windows_of_users += len(users)
        expected: Counter[tuple[str, int, int]] = Counter()
        for file in (*folder.glob("trace*.json*"), *users):
            expected += slices_of(events_of(file))
        for step in marks.recorded.steps(rank):
            expected[f"step {step.step}", step.begin_ns, step.end_ns - step.begin_ns] += 1
        assert slices_of(timeline.of_traces(f"rank {rank} · {record.host}")) == expected
    assert windows_of_users


def test_slices_nest_on_every_track(timeline: Timeline) -> None:
    tracks = defaultdict(list)
    for event in timeline.events:
        if event["ph"] == "X":
            tracks[event["tid"]].append((event["begin_ns"], event["begin_ns"] + int(event["dur"] * 1000)))
    for slices in tracks.values():
        open_ends: list[int] = []
        for begin_ns, end_ns in slices:
            while open_ends and open_ends[-1] <= begin_ns:
                open_ends.pop()
            assert not open_ends or end_ns <= open_ends[-1]
            open_ends.append(end_ns)


def test_numbers_of_processes_threads_and_arrows_are_of_one_rank_each(timeline: Timeline) -> None:
    threads = {e["tid"]: e["pid"] for e in timeline.events if e["name"] == "thread_name"}
    assert not threads.keys() & timeline.names.keys()
    assert {(e["tid"], e["pid"]) for e in timeline.events if e["ph"] in "Xi"} <= threads.items()
    arrows = defaultdict(list)
    for event in timeline.events:
        if event["ph"] in ("s", "f"):
            arrows[event["id"]].append(event)
    assert arrows
    for ends in arrows.values():
        assert sorted(end["ph"] for end in ends) == ["f", "s"]
        assert len({timeline.names[end["pid"]] for end in ends}) == 1


def test_the_samples_of_a_rank_are_its_own(marks: Any, timeline: Timeline) -> None:
    (host,) = marks.recorded.folder.host_folders()
    rank = marks.rank_of["loaders"]
    records = list(read_lines(CounterRecord, host / COUNTERS_FILE))
    resident = [(r.time_ns, r.values[f"rank {rank}"]["rss_bytes"]) for r in records if f"rank {rank}" in r.values]
    counters = timeline.of("C", f"rank {rank} · {marks.recorded.rank(rank).host}")
    found = [(e["begin_ns"], e["args"]["B"]) for e in counters if e["name"] == "resident memory"]
    assert found == resident
    assert timeline.of("C", f"host {host.name}")
