"""The samples of a node as counter tracks of the timeline; of totals the rates between samples.

A total that never grows has no track: there are many on a node, which would hide the others."""

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
        self._still_since_ns: dict[tuple[str, str], int] = {}
        self._grown = set[tuple[str, str]]()
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
        if not counter.is_cumulative:
            self._put(subject, counter.label, counter.unit, time_ns, value)
            return
        before_ns, before = self._totals.get((subject, name), (time_ns, value))
        self._totals[subject, name] = time_ns, value
        if before_ns < time_ns and before <= value:  # one that begins anew has no rate there
            rate = (value - before) / ((time_ns - before_ns) / 1e9)
            self._rate(subject, counter, before_ns, rate)

    def _rate(self, subject: str, counter: CounterName, begin_ns: int, rate: float) -> None:
        key, unit = (subject, counter.label), f"{counter.unit}/s"
        if rate == 0 and key not in self._grown:
            self._still_since_ns.setdefault(key, begin_ns)
            return
        self._grown.add(key)
        if (still_since_ns := self._still_since_ns.pop(key, None)) is not None:
            self._put(subject, counter.label, unit, still_since_ns, 0.0)
        self._put(subject, counter.label, unit, begin_ns, rate)

    def _put(self, subject: str, label: str, unit: str, time_ns: int, value: float) -> None:
        process, prefix = self._home(subject)
        self._writer.counter(process, prefix + label, unit, time_ns, value)

    def _event(self, subject: str, event: str, time_ns: int) -> None:
        process, prefix = self._home(subject)
        if process not in self._threads:
            self._threads[process] = self._writer.thread(process, "events", Shelf.EVENTS)
        self._writer.instant(process, self._threads[process], "event", prefix + event, time_ns, {})
