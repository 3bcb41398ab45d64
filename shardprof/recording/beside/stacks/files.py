"""The files of one rank's stacks: a Chrome trace on the run's clock, collapsed stacks, and a flame graph.

A sample comes one interval late on average: py-spy waits at random around its rate, and what it sees began or ended
since the sample before. So everything is placed one interval earlier, where it belongs on average.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shardprof.recording.beside.stacks import flame_graph
from shardprof.recording.beside.stacks.growing_gzip import GrowingGzip
from shardprof.recording.beside.stacks.py_spy import RATE_HZ, Samples
from shardprof.recording.beside.stacks.sampled_calls import Call, Calls, read_calls
from shardprof.trace.schema import RANK_FILE, STACKS_FILE, RankRecord, read_whole

FOLDED_FILE = "stacks.folded"
PICTURE_FILE = "stacks.svg"
MOST_STACKS = 10_000
INTERVAL_US = 1_000_000 // RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A time that was sampled in one go: how often, how many samples failed, how exactly it lies on the run's clock."""

    begin_ns: int
    end_ns: int
    samples: int
    errors: int
    anchor_uncertainty_ns: int


class StackFiles:
    """Grows the files by a chunk at a time; they are whole after each."""

    def __init__(self, folder: Path, rank: int, pid: int) -> None:
        self._folder = folder
        self._rank = rank
        self._pid = pid
        self._clock_offset_ns = time.time_ns() - time.monotonic_ns()  # a clock that is stepped does not move samples
        self._trace = GrowingGzip()
        self._base_ns = 0
        self._threads: dict[int, str] = {}
        self._stack_us: Counter[str] = Counter()
        self._chunks: list[Chunk] = []

    def add(self, seen: Samples) -> None:
        """Add what py-spy saw.

        OSError where it cannot be written; KeyError, TypeError or ValueError where it is not what py-spy writes.
        """
        if not seen.events:
            return
        zero_ns = seen.anchor.zero_ns + self._clock_offset_ns
        head = "" if self._chunks else self._head(zero_ns)
        offset_us = (zero_ns - self._base_ns) // 1000 - INTERVAL_US
        sampled = read_calls(seen, self._pid)
        chunk = self._chunk(seen, offset_us)
        folder = self._current_folder()
        part = head + self._part(sampled, offset_us)
        self._trace.extend(folder / STACKS_FILE, part.encode(), self._tail([*self._chunks, chunk]).encode())
        self._chunks.append(chunk)
        self._threads |= sampled.threads
        self._add_times(sampled.stack_us)
        flame_graph.write_text(folder / FOLDED_FILE, flame_graph.folded(self._stack_us))
        flame_graph.write_text(folder / PICTURE_FILE, flame_graph.svg(self._title(), self._stack_us))

    def _chunk(self, seen: Samples, offset_us: int) -> Chunk:
        times_us = [event["ts"] for event in seen.events]
        return Chunk(
            begin_ns=self._base_ns + 1000 * (offset_us + min(times_us)),
            end_ns=self._base_ns + 1000 * (offset_us + max(times_us)),
            samples=seen.samples,
            errors=seen.errors,
            anchor_uncertainty_ns=seen.anchor.uncertainty_ns,
        )

    def _part(self, sampled: Calls, offset_us: int) -> str:
        """Events for the trace: the names of threads that are new, and all calls."""
        new = sampled.threads.items() - self._threads.items()
        names = (self._metadata("thread_name", tid, name) for tid, name in sorted(new))
        calls = (self._event(call, offset_us) for call in sampled.calls)
        return "".join(f",\n{json.dumps(event)}" for event in itertools.chain(names, calls))

    def _current_folder(self) -> Path:
        """Where the rank's files are: a restart of the job puts those of the attempt before it aside."""
        for folder in (self._folder, *self._folder.glob("attempt-*")):
            try:
                if read_whole(RankRecord, folder / RANK_FILE).pid == self._pid:
                    return folder
            except (OSError, ValueError, TypeError):
                continue
        return self._folder

    def _add_times(self, stack_us: Counter[str]) -> None:
        for stack, time_us in stack_us.items():
            if stack not in self._stack_us and len(self._stack_us) >= MOST_STACKS:
                stack = f"{stack.partition(';')[0]};(further stacks)"
            self._stack_us[stack] += time_us

    def _head(self, zero_ns: int) -> str:
        """Begins the trace. Times in it are relative to its first chunk, as in Kineto's files, to stay exact."""
        self._base_ns = zero_ns - 1000 * INTERVAL_US
        header = json.dumps({"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": self._base_ns})
        return f'{header[:-1]}, "traceEvents": [\n{json.dumps(self._metadata("process_name", 0, f"rank {self._rank}"))}'

    def _tail(self, chunks: list[Chunk]) -> str:
        """Ends the trace, with what is known about it."""
        about = {
            "rank": self._rank,
            "rate_hz": RATE_HZ,
            "samples": sum(chunk.samples for chunk in chunks),
            "errors": sum(chunk.errors for chunk in chunks),
            "anchor_uncertainty_ns": max(chunk.anchor_uncertainty_ns for chunk in chunks),
            "chunks": [asdict(chunk) for chunk in chunks],
        }
        return f'\n], "shardprof": {json.dumps({"stacks": about})}}}\n'

    def _metadata(self, what: str, tid: int, name: str) -> dict[str, Any]:
        return {"ph": "M", "name": what, "pid": self._pid, "tid": tid, "ts": 0, "args": {"name": name}}

    def _event(self, call: Call, offset_us: int) -> dict[str, Any]:
        return {
            "ph": "X",
            "cat": "python",
            "name": call.name,
            "pid": self._pid,
            "tid": call.tid,
            "ts": offset_us + call.begin_us,
            "dur": call.end_us - call.begin_us,
            "args": {"file": f"{call.file}:{call.line}"},
        }

    def _title(self) -> str:
        sampled_s = sum(chunk.end_ns - chunk.begin_ns for chunk in self._chunks) / 1e9
        return f"rank {self._rank} · {sampled_s:.0f} s at {RATE_HZ} samples a second"
