"""A run while it is being recorded: where each rank is, what its last steps were like, what its node counts now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shardprof.trace.place import PLACE_FILE, Place, read_place
from shardprof.trace.schema import (
    COUNTERS_FILE,
    HOST_FILE,
    RANK_FILE,
    STEPS_FILE,
    CounterRecord,
    HostRecord,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    last_attempt,
    parse_lines,
    read_whole,
)

R = TypeVar("R")
LAST_STEPS = 20
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRank:
    """One rank that has checked in: what it is, where it is now, and its last steps, the oldest first."""

    record: RankRecord
    place: Place | None
    steps: tuple[StepRecord, ...]

    @property
    def step(self) -> int:
        """The step that it is in."""
        return self.place.step if self.place else (self.steps[-1].step + 1 if self.steps else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveHost:
    """One node with a recorder, and its last samples, the oldest first."""

    record: HostRecord
    counters: tuple[CounterRecord, ...]


def rank_records(run: RunFolder) -> list[RankRecord]:
    """What the ranks that have checked in are."""
    return last_attempt(record for _, record in _readable(RankRecord, RANK_FILE, run.rank_folders()))


def has_outcome(run: RunFolder) -> bool:
    """Have the recorders of all its nodes said how it ended?"""
    try:
        return read_whole(RunRecord, run.run_file).outcome is not None
    except (OSError, ValueError, TypeError):
        return False  # being made at this moment


def live_ranks(run: RunFolder) -> list[LiveRank]:
    """The ranks that have checked in."""
    return [
        LiveRank(
            record=record,
            place=read_place(run.rank(record.rank) / PLACE_FILE),
            steps=tuple(_tail(StepRecord, run.rank(record.rank) / STEPS_FILE)[-LAST_STEPS:]),
        )
        for record in rank_records(run)
    ]


def live_hosts(run: RunFolder) -> list[LiveHost]:
    """The nodes with a recorder."""
    return [
        LiveHost(record=record, counters=tuple(_tail(CounterRecord, folder / COUNTERS_FILE)))
        for folder, record in _readable(HostRecord, HOST_FILE, run.host_folders())
    ]


def _readable(record_type: type[R], name: str, folders: list[Path]) -> Iterator[tuple[Path, R]]:
    for folder in folders:
        try:
            yield folder, read_whole(record_type, folder / name)
        except (OSError, ValueError, TypeError):
            continue  # being made at this moment


def _tail(record_type: type[R], path: Path) -> list[R]:
    """The records at the end of a journal."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return list(parse_lines(record_type, text.splitlines()))
