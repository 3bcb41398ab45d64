"""The samples of a node as counter tracks of the timeline; of totals the rates between samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from shardprof.trace.counter_names import COUNTERS, CounterName
from shardprof.trace.schema import COUNTERS_FILE, CounterRecord, read_lines
from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import TimelineWriter

Home = tuple[int, str]
"""The process that a subject's tracks stand in, and what their names begin with there."""


class CounterTracks:
    """Tracks for what was sampled on one node; `home` says where those of a subject belong."""

    def __init__(self, writer: TimelineWriter, home: Callable[[str], Home]) -> None:
        self._writer = writer
        self._home = home
        self._totals: dict[tuple[str, str], tuple[int, float]] = {}
        self._threads: dict[int, int] = {}

    def write(self, folder: Path) -> None:
        """Write all samples of the node in `folder`, and what happened between them."""
        for record in read_lines(CounterRecord, folder / COUNTERS_FILE):
            for subject, values in record.values.items():
                for name, value in values.items():
                    if math.isfinite(value):
                        self._sample(subject, name, record.time_ns, value)
            for subject, events in record.events.items():
                for event in events:
                    self._event(subject, event, record.time_ns)

    def _sample(self, subject: str, name: str, time_ns: int, value: float) -> None:
        counter = COUNTERS.get(name) or CounterName(name, "", is_cumulative=False)
        process, prefix = self._home(subject)
        if not counter.is_cumulative:
            self._writer.counter(process, prefix + counter.label, counter.unit, time_ns, value)
            return
        before_ns, before = self._totals.get((subject, name), (time_ns, value))
        self._totals[subject, name] = time_ns, value
        if before_ns < time_ns and before <= value:  # one that begins anew has no rate there
            rate = (value - before) / ((time_ns - before_ns) / 1e9)
            self._writer.counter(process, prefix + counter.label, f"{counter.unit}/s", before_ns, rate)

    def _event(self, subject: str, event: str, time_ns: int) -> None:
        process, prefix = self._home(subject)
        if process not in self._threads:
            self._threads[process] = self._writer.thread(process, "events", Shelf.EVENTS)
        self._writer.instant(process, self._threads[process], "event", prefix + event, time_ns, {})
