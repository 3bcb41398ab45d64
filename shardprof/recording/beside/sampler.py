"""Asks the counter sources of a node in turn and appends what they say to counters.jsonl, in a thread.

While a rank captures or is about to, each source is asked as often as it wants; else SPARSE times more rarely, which is
what fits on a disk for days. A source never takes more than a hundredth of one core: one that costs more is asked less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shardprof.recording.beside.thread import BesideThread
from shardprof.recording.counters import Source
from shardprof.recording.shield import shielded
from shardprof.trace.journal import Journal
from shardprof.trace.schema import CounterCost, CounterRecord, to_json

SPARSE = 20
MOST_SHARE = 0.01
MOST_BYTES = 64 << 20


@dataclass
class _Asked:
    """A source, when it was asked last, and what asking it has cost so far."""

    source: Source
    asked_ns: int = -(1 << 62)
    samples: int = 0
    cost_ns: int = 0

    @property
    def interval_ns(self) -> int:
        affordable_ns = self.cost_ns / self.samples / MOST_SHARE if self.samples else 0
        return max(self.source.interval_ns, round(affordable_ns))


class Sampler(BesideThread):
    """Samples from `start` to `stop`. `is_dense` says whether samples close together are wanted now."""

    def __init__(
        self, path: Path, sources: list[Source], is_dense: Callable[[], bool], note: Callable[[str], None]
    ) -> None:
        super().__init__("sampler")
        self._path = path
        self._asked = [_Asked(source) for source in sources]
        self._running = list(self._asked)
        self._is_dense = is_dense
        self._note = note
        self._clock_offset_ns = time.time_ns() - time.monotonic_ns()  # a clock that is stepped does not move samples

    def costs(self, host: str) -> tuple[CounterCost, ...]:
        """What each source has cost so far on this `host`."""
        return tuple(
            CounterCost(
                host=host,
                source=asked.source.name,
                interval_ns=asked.interval_ns,
                samples=asked.samples,
                cost_ns=asked.cost_ns,
            )
            for asked in self._asked
        )

    @shielded
    def _run(self) -> None:
        try:
            with Journal(self._path, MOST_BYTES) as journal:
                while self._running:
                    self._ask_those_due(journal)
                    if self._stopped.wait(self._until_next_s()):
                        break
        except OSError as error:
            self._note(f"counters are missing: {error}")
        for asked in self._running:
            asked.source.close()

    def _until_next_s(self) -> float:
        """As if samples were wanted densely, which may be so by then."""
        now_ns = time.monotonic_ns()
        waits_ns = [asked.interval_ns - (now_ns - asked.asked_ns) % asked.interval_ns for asked in self._running]
        return min(waits_ns, default=0) / 1e9

    def _ask_those_due(self, journal: Journal) -> None:
        factor = 1 if self._is_dense() else SPARSE
        for asked in list(self._running):
            begin_ns = time.monotonic_ns()
            if begin_ns >= asked.asked_ns + factor * asked.interval_ns:
                self._ask(asked, journal)
                asked.asked_ns = begin_ns
                asked.samples += 1
                asked.cost_ns += time.monotonic_ns() - begin_ns

    def _ask(self, asked: _Asked, journal: Journal) -> None:
        try:
            sample = asked.source.sample()
        except Exception as error:
            self._running.remove(asked)
            self._note(f"counters of {asked.source.name} end early: {error!r}")
            return
        if not sample.values and not sample.events:
            return
        record = CounterRecord(
            time_ns=time.monotonic_ns() + self._clock_offset_ns,
            source=asked.source.name,
            values=sample.values,
            events={subject: list(events) for subject, events in sample.events.items()},
        )
        journal.append(to_json(record))
