"""The counters of a node as series: one of each counter of each subject, with the events that came between.

Between two samples a counter is taken to have changed evenly. What a subject's counter was over a span of time is the
mean of one that is a state (a clock, a temperature), the increase of one that is a total (bytes, energy, faults).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardprof.trace.counter_names import COUNTERS
from shardprof.trace.schema import CounterRecord, read_lines

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

_MOST = 2**64
"""No counter holds more; what a damaged line claims beyond, and what is no number, was not measured."""


@dataclass(frozen=True, slots=True)
class Series:
    """One counter of one subject: its values at the times (Unix nanoseconds, ascending) at which it was sampled."""

    name: str
    times_ns: Int64s
    values: Float64s

    @property
    def is_total(self) -> bool:
        """Does it only grow, so that differences tell?"""
        return COUNTERS[self.name].is_cumulative

    def over(self, begins_ns: Int64s, ends_ns: Int64s) -> Float64s:
        """For each span of time the mean, of a total its increase; NaN where the samples do not reach around it."""
        if not len(self.times_ns):
            return np.full(len(begins_ns), np.nan)
        known = (begins_ns >= self.times_ns[0]) & (ends_ns <= self.times_ns[-1])
        if self.is_total:
            told = np.maximum(self._at(ends_ns) - self._at(begins_ns), 0)  # one that began anew did not go backwards
        else:
            seconds = np.maximum(ends_ns - begins_ns, 1) / 1e9
            told = (self._integral(ends_ns) - self._integral(begins_ns)) / seconds
        return np.where(known, told, np.nan)

    def over_one(self, begin_ns: int, end_ns: int) -> float | None:
        """The same for one span of time, None for NaN."""
        (value,) = self.over(np.array([begin_ns]), np.array([end_ns]))
        return None if np.isnan(value) else float(value)

    def rates(self) -> Float64s:
        """The increase a second between each two samples, of which there is one less than of samples."""
        seconds = np.diff(self.times_ns) / 1e9
        rates: Float64s = np.maximum(np.diff(self.values), 0) / np.maximum(seconds, 1e-9)
        return rates

    def _at(self, times_ns: Int64s) -> Float64s:
        at: Float64s = np.interp(self._seconds(times_ns), self._seconds(self.times_ns), self.values)
        return at

    def _integral(self, times_ns: Int64s) -> Float64s:
        """The area under the line through the samples, from the first one up to each time, in value x seconds."""
        seconds, at = self._seconds(self.times_ns), self._seconds(times_ns)
        areas = np.concatenate([[0.0], np.cumsum((self.values[1:] + self.values[:-1]) / 2 * np.diff(seconds))])
        before = np.clip(np.searchsorted(seconds, at, side="right") - 1, 0, len(seconds) - 1)
        area: Float64s = areas[before] + (self.values[before] + self._at(times_ns)) / 2 * (at - seconds[before])
        return area

    def _seconds(self, times_ns: Int64s) -> Float64s:
        seconds: Float64s = (times_ns - self.times_ns[0]) / 1e9
        return seconds


@dataclass(frozen=True, slots=True)
class CounterEvent:
    """Something that happened to a subject, seen at a sample."""

    time_ns: int
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Counters:
    """What was sampled on one node, by subject and counter."""

    series: Mapping[str, Mapping[str, Series]]
    events: tuple[CounterEvent, ...]

    def over(self, subject: str, begins_ns: Int64s, ends_ns: Int64s) -> dict[str, Float64s]:
        """Every counter of a subject over spans of time."""
        return {name: series.over(begins_ns, ends_ns) for name, series in self.series.get(subject, {}).items()}


def read_counters(path: Path) -> Counters:
    """The counters in a node's journal; none where it has none."""
    return counters_of(read_lines(CounterRecord, path))


def counters_of(records: Iterable[CounterRecord]) -> Counters:
    """The series of samples, the oldest first. Left out are names that this version does not know, and values that no
    counter has: NaN, infinities, what is beyond 64 bits."""
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    events = []
    for record in _in_order(records):
        for subject, counters in record.values.items():
            for name in counters.keys() & COUNTERS.keys():
                value = counters[name]
                if isinstance(value, (int, float)) and abs(value) < _MOST:  # which NaN is not either
                    times[subject, name].append(record.time_ns)
                    values[subject, name].append(float(value))
        for subject, texts in record.events.items():
            events += [CounterEvent(record.time_ns, subject, text) for text in texts]
    series: dict[str, dict[str, Series]] = defaultdict(dict)
    for subject, name in times:
        key = (subject, name)
        series[subject][name] = Series(name, np.array(times[key], dtype=np.int64), np.array(values[key]))
    return Counters(series, tuple(events))


def _in_order(records: Iterable[CounterRecord]) -> Iterator[CounterRecord]:
    """A journal that was being thinned when its writer was killed holds some lines twice."""
    last: dict[str, int] = {}
    for record in records:
        if record.time_ns > last.get(record.source, -1):
            last[record.source] = record.time_ns
            yield record
