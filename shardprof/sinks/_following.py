"""The recorded steps of a run as rows for sinks, each once, as they come: how long it was and what it met.

A step is a row when the counters of its node reach to its end, or have not for PATIENCE_S, or the run is over.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardprof.trace.counters import Counters, counters_of
from shardprof.trace.place import ENDED, PLACE_FILE, read_place
from shardprof.trace.schema import (
    COUNTERS_FILE,
    HOST_FILE,
    STEPS_FILE,
    CounterRecord,
    HostRecord,
    RankRecord,
    RunFolder,
    StepRecord,
    gpu_of,
    parse_lines,
    put_step,
    read_whole,
)
from shardprof.trace.tail import Tail

PATIENCE_S = 10
KEPT_NS = 20_000_000_000
"""Samples from so long before the earliest step that waits: the one before its begin is among them."""
MOST_KEPT_NS = 300_000_000_000
"""Older ones than the newest by so much go whatever waits: a rank that hangs must not hold those of days."""
PHASES = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step of a rank: its number, its end (Unix time, nanoseconds), and what was measured of it, by names such as
    "step/seconds", "memory/allocated_bytes", "process/rss_bytes" or "gpu/power_w"."""

    step: int
    end_ns: int
    values: Mapping[str, float]


class Follower:
    """Follows the ranks that `ranks` gives, which are asked for at each look."""

    def __init__(self, run: RunFolder, ranks: Callable[[], Iterable[RankRecord]]) -> None:
        self._run = run
        self._records = ranks
        self._ranks: dict[int, _Rank] = {}
        self._nodes: dict[str, _Node] = {}

    def rows(self, *, final: bool) -> Iterator[tuple[int, list[StepRow]]]:
        """The new steps of each rank that has some; when it is the `final` look, all that are left."""
        self._look()
        for number, rank in self._ranks.items():
            rank.look()  # one after the other: journals of thousands are never held at once
            node = self._nodes[rank.record.host]
            if ready := rank.take(node.reached_ns, final=final):
                yield number, _rows(rank.record, ready, node)
        for host, node in self._nodes.items():
            node.forget(rank.waits_from_ns for rank in self._ranks.values() if rank.record.host == host and rank.waits)

    def _look(self) -> None:
        for record in self._records():
            rank = self._ranks.get(record.rank)
            if rank is None or rank.record.started_ns != record.started_ns:  # new, or another attempt of it
                self._ranks[record.rank] = rank = _Rank(record, self._run.rank(record.rank))
            rank.record = record
            if record.host not in self._nodes:
                self._nodes[record.host] = _Node(self._run, record.host)
        for node in self._nodes.values():
            node.look()


class _Rank:
    """A rank, and its steps that are no rows yet."""

    def __init__(self, record: RankRecord, folder: Path) -> None:
        self.record = record
        self._place = folder / PLACE_FILE
        self._tail = Tail(folder / STEPS_FILE)
        self._has_ended = False
        self._waiting: list[StepRecord] = []
        self._last = -1
        self.waits_from_ns = record.started_ns

    def look(self) -> None:
        """What has come. A step that is a row already stays as it was told."""
        place = read_place(self._place)
        self._has_ended = place is not None and place.phase == ENDED  # asked first: its last steps are there then
        for step in parse_lines(StepRecord, self._tail.lines()):
            if step.step > self._last:
                put_step(self._waiting, step)

    @property
    def waits(self) -> bool:
        """Are there steps that are no rows yet, or will there be?"""
        return bool(self._waiting) or not self._has_ended

    def take(self, reached_ns: int | None, *, final: bool) -> list[StepRecord]:
        """The steps that wait no longer."""
        late_ns = time.time_ns() - PATIENCE_S * 1_000_000_000
        until_ns = late_ns if reached_ns is None else max(reached_ns, late_ns)
        count = sum(final or step.end_ns <= until_ns for step in self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        if ready:
            self._last, self.waits_from_ns = ready[-1].step, ready[-1].end_ns
        return ready


class _Node:
    """A node, and the samples of its counters that steps may still need."""

    def __init__(self, run: RunFolder, host: str) -> None:
        self._folder = run.host(host)
        self._tail = Tail(self._folder / COUNTERS_FILE)
        self._samples: list[CounterRecord] = []
        self._counters: Counters | None = None
        self._last_ns: dict[str, int] = {}

    @property
    def reached_ns(self) -> int | None:
        """Up to when every source of its counters was asked; None where there are none."""
        return min(self._last_ns.values(), default=None)

    def look(self) -> None:
        """What has come."""
        for sample in parse_lines(CounterRecord, self._tail.lines()):
            self._samples.append(sample)
            self._last_ns[sample.source] = sample.time_ns
            self._counters = None

    def forget(self, needed_ns: Iterable[int]) -> None:
        """Samples from before all that is needed."""
        newest_ns = max(self._last_ns.values(), default=0)
        before_ns = max(min(needed_ns, default=newest_ns) - KEPT_NS, newest_ns - MOST_KEPT_NS)
        self._samples = [sample for sample in self._samples if sample.time_ns >= before_ns]

    def over(self, rank: RankRecord, steps: Sequence[StepRecord]) -> dict[str, list[float]]:
        """What the rank's process and its GPU met in steps: means, of totals increases; NaN where that is not known."""
        counters = self._counters = self._counters or counters_of(self._samples)
        begins_ns = np.array([step.begin_ns for step in steps], dtype=np.int64)
        ends_ns = np.array([step.end_ns for step in steps], dtype=np.int64)
        subjects = {"process": f"rank {rank.rank}", "gpu": self._gpu(rank)}
        return {
            f"{word}/{name}": values.tolist()
            for word, subject in subjects.items()
            for name, values in sorted(counters.over(subject, begins_ns, ends_ns).items())
        }

    def _gpu(self, rank: RankRecord) -> str:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return gpu_of(read_whole(HostRecord, self._folder / HOST_FILE), rank) or ""
        return ""


def _rows(rank: RankRecord, steps: Sequence[StepRecord], node: _Node) -> list[StepRow]:
    counters = node.over(rank, steps)
    return [
        StepRow(
            step=step.step,
            end_ns=step.end_ns,
            values=_of_record(rank, step)
            | {name: values[i] for name, values in counters.items() if not np.isnan(values[i])},
        )
        for i, step in enumerate(steps)
    ]


def _of_record(rank: RankRecord, step: StepRecord) -> dict[str, float]:
    seconds = (step.end_ns - step.begin_ns) / 1e9
    phases = {f"step/{phase}_seconds": getattr(step, f"{phase}_ns") for phase in PHASES}
    values = {
        "step/seconds": seconds,
        **{name: time_ns / 1e9 for name, time_ns in phases.items() if time_ns is not None},
        "step/recording_seconds": step.hook_ns / 1e9,
        "step/captured": float(step.captured),
        **{f"memory/{name}": float(value) for name, value in step.cuda_memory.items()},
    }
    samples = _samples_per_step(rank)
    return values if samples is None or not seconds else {**values, "step/samples_per_second": samples / seconds}


def _samples_per_step(rank: RankRecord) -> int | None:
    """What the rank trains on in a step, where its framework tells (DeepSpeed does)."""
    factors = [rank.settings.get(name) for name in ("micro_batch_size", "gradient_accumulation_steps")]
    known = [factor for factor in factors if isinstance(factor, int)]
    return known[0] * known[1] if len(known) == len(factors) else None
