"""Tells of ranks that make no progress: where each one is, what its Python is doing, who keeps the others waiting.

It looks from the recorder's process at the line that each rank of this node overwrites as it goes, and leaves the job
alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.beside.stacks.recorder import dump
from shardprof.recording.beside.thread import BesideThread
from shardprof.recording.shield import shielded
from shardprof.trace.flight_recorder import Call, Calls, Wait, read_flight, waits
from shardprof.trace.place import ENDED, PLACE_FILE, Place, read_place
from shardprof.trace.schema import FLIGHT_FILE, RANK_FILE, RankRecord, last_attempt, read_whole
from shardprof.words import numbers

LOOK_S = 1.0
GRACE_S = 3.0  # the ranks write their flight recorders about when the watchdog notices
FOLDER = "watchdog"


@dataclass
class _Watched:
    """A rank of this node: where it was last, since when by our own clock, and whether that was told of."""

    record: RankRecord
    place: Place | None = None
    since: float = 0
    is_told: bool = False


class Watchdog(BesideThread):
    """Watches the ranks of one node from `start` to `stop`; a rank is stuck when nothing moved for `seconds`."""

    def __init__(
        self, ranks: NodeRanks, seconds: float, say: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        super().__init__("watchdog")
        self._node_ranks = ranks
        self._folder = ranks.run
        self._seconds = seconds
        self._say = say
        self._note = note
        self._ranks: dict[int, _Watched] = {}
        self._reports = 0

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self._look()

    @shielded
    def _look(self) -> None:
        self._find_ranks()
        if self._stuck() and not self._stopped.wait(GRACE_S):
            stuck = self._stuck()
            for watched in stuck:
                watched.is_told = True
            if stuck:
                self._report([watched.record for watched in stuck])

    def _stuck(self) -> list[_Watched]:
        for watched in self._ranks.values():
            self._update(watched)
        return [watched for watched in self._ranks.values() if self._is_stuck(watched)]

    def _find_ranks(self) -> None:
        for record in self._node_ranks.current():
            known = self._ranks.get(record.rank)
            if known is None or known.record.started_ns != record.started_ns:
                self._ranks[record.rank] = _Watched(record, since=time.monotonic())

    def _update(self, watched: _Watched) -> None:
        place = read_place(self._folder.rank(watched.record.rank) / PLACE_FILE)
        if place is not None and place != watched.place:
            watched.place, watched.since, watched.is_told = place, time.monotonic(), False

    def _is_stuck(self, watched: _Watched) -> bool:
        if watched.place is None or watched.place.phase == ENDED or watched.is_told:
            return False
        return time.monotonic() - watched.since >= self._seconds and psutil.pid_exists(watched.record.pid)

    def _report(self, stuck: Sequence[RankRecord]) -> None:
        self._reports += 1
        folder = self._folder.host(self._node_ranks.host) / FOLDER / str(self._reports)
        lines = [f"no progress for {self._seconds:g} s on {_ranks([record.rank for record in stuck])}", *self._told()]
        lines.append(f"the job is left alone; stacks of the ranks of this node are in {folder}")
        folder.mkdir(parents=True)
        for record in stuck:
            (folder / f"rank-{record.rank:05d}.txt").write_text(dump(record.pid) or "py-spy could not look into it\n")
        (folder / "report.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            self._say(line)
        self._note(f"{lines[0]}: see {folder}")

    def _told(self) -> list[str]:
        """Who waits for whom, by the flight recorders of all ranks; where there are none, where each rank is."""
        records = list(self._records())
        members = {group.name: group.ranks for record in records for group in record.process_groups}
        flights = {
            record.rank: calls
            for record in records
            if (calls := read_flight(self._folder.rank(record.rank) / FLIGHT_FILE)) is not None
        }
        places = {record.rank: read_place(self._folder.rank(record.rank) / PLACE_FILE) for record in records}
        return [
            *(
                f"rank {rank} is in {_place(place)}{_last(flights.get(rank))}"
                for rank, place in places.items()
                if place
            ),
            *(_waiting(wait) for wait in waits(flights, members)),
        ]

    def _records(self) -> Sequence[RankRecord]:
        records = []
        for folder in self._folder.rank_folders():
            with contextlib.suppress(OSError, ValueError, TypeError):
                records.append(read_whole(RankRecord, folder / RANK_FILE))
        return last_attempt(records)


def _last(calls: Calls | None) -> str:
    return f"; its last collective: {_call(calls[-1])}" if calls else ""


def _call(call: Call) -> str:
    return f"{call.kind} number {call.sequence} of group {call.group} ({call.description})"


def _waiting(wait: Wait) -> str:
    what = _call(wait.call)
    waiting = f"{_ranks(wait.waiting)} wait{'s' if len(wait.waiting) == 1 else ''} in {what}"
    if not wait.absent:
        return f"{waiting}, which every rank of the group has joined"
    return f"{_ranks(wait.absent)} {'is' if len(wait.absent) == 1 else 'are'} behind: {waiting}"


def _place(place: Place) -> str:
    seconds = max(0, time.time() - place.since_ns / 1e9)
    return f"step {place.step}, {place.phase} for {seconds:.0f} s"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {numbers(ranks)}"
