"""The timeline: all that a run holds as one Chrome trace, for Perfetto, every rank on one base of time.

A rank has a process of its steps and counters and one for each process in its traces; a node has one for what belongs
to no rank. However long the traces are, only a part of their events is in memory: the rest waits in a nameless file
beside the timeline, about as large as the traces.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shardprof.errors import ShardprofError
from shardprof.trace.quality import Quality
from shardprof.trace.run import HostFolder, Run
from shardprof.trace.schema import COUNTERS_FILE, CounterRecord, read_lines
from shardprof.trace.timeline.captured_tracks import CapturedTracks
from shardprof.trace.timeline.counter_tracks import CounterTracks, Home
from shardprof.trace.timeline.inputs import RankInput, read_ranks
from shardprof.trace.timeline.nccl_tracks import write_nccl
from shardprof.trace.timeline.rank_tracks import write_allocator, write_steps
from shardprof.trace.timeline.sorted_rows import RowStore
from shardprof.trace.timeline.writer import TimelineWriter

_REPORTS = "watchdog/*/report.txt"
_LEVEL = 2
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What was written: how many events of which ranks, and what is missing."""

    ranks: tuple[int, ...]
    events: int
    quality: tuple[Quality, ...]


def write_timeline(run: Run, out: Path) -> Timeline:
    """Write the timeline of `run` to `out`, which appears whole or not at all.

    Raises ShardprofError where nothing can be read, or not be written to `out`.
    """
    doubts = list(run.quality)
    with _appearing(out) as file, RowStore(out.parent) as store:
        ranks = read_ranks(run, store, doubts)
        writer = TimelineWriter(file, _base_ns(ranks, run.hosts))
        processes = {rank.rank: _write_rank(writer, rank, doubts) for rank in ranks}
        for host in run.hosts:
            _write_host(writer, host, ranks, processes)
        writer.finish()
    return Timeline(ranks=tuple(processes), events=writer.events, quality=tuple(doubts))


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        packed = gzip.GzipFile(partial, "wb", _LEVEL)
    except OSError as error:
        raise ShardprofError(f"{path} cannot be written: {error.strerror}", "say where it goes: --out FILE") from error
    try:
        with io.BufferedWriter(packed, _BUFFER_BYTES) as file:
            yield cast(BinaryIO, file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _base_ns(ranks: Sequence[RankInput], hosts: Sequence[HostFolder]) -> int:
    """The begin of everything: times relative to it are short enough for a viewer to keep their nanoseconds."""
    samples = (next(read_lines(CounterRecord, host.folder / COUNTERS_FILE), None) for host in hosts)
    begins_ns = [*(begin_ns for rank in ranks for begin_ns in rank.begins_ns()), *(s.time_ns for s in samples if s)]
    return min(begins_ns, default=0)


def _write_rank(writer: TimelineWriter, rank: RankInput, doubts: list[Quality]) -> int:
    """The rank's own process."""
    process = writer.process(rank.title)
    if steps := rank.steps():
        write_steps(writer, process, steps)
        write_allocator(writer, process, steps)
    if records := rank.nccl():
        captured_ns = [(step.begin_ns, step.end_ns) for step in steps if step.captured]
        left_out = write_nccl(writer, process, records.operations, captured_ns)
        message = f"operations of NCCL on rank {rank.rank} are left out but for the last"
        doubts += [Quality(code="nccl_left_out", message=message, count=left_out)] if left_out else []
    CapturedTracks(writer, rank.title, rank.captures).write()
    CapturedTracks(writer, rank.title, rank.stacks, "stacks").write()
    return process


def _write_host(
    writer: TimelineWriter, host: HostFolder, ranks: Sequence[RankInput], processes: dict[int, int]
) -> None:
    homes = _homes(host, ranks, processes)
    own = writer.process(f"host {host.name}")
    CounterTracks(writer, lambda subject: homes.get(subject, (own, f"{subject} · "))).write(host.folder)
    reports = sorted(host.folder.glob(_REPORTS))
    thread = writer.thread(own, "watchdog") if reports else 0
    for report in reports:
        name, _, told = report.read_text(errors="replace").partition("\n")
        writer.instant(own, thread, name, report.stat().st_mtime_ns, {"report": told})


def _homes(host: HostFolder, ranks: Sequence[RankInput], processes: dict[int, int]) -> dict[str, Home]:
    """Where the subjects belong that are of one rank: itself, and the GPU that it computes on."""
    of_ranks = {f"rank {rank}": (process, "") for rank, process in processes.items()}
    uuids = {r.record.device_uuid: r.rank for r in ranks if r.record and r.record.device_uuid and r.host == host.name}
    devices = host.record.devices if host.record else ()
    of_gpus = {d.subject: (processes[uuids[d.uuid]], f"{d.subject} · ") for d in devices if d.uuid in uuids}
    return of_ranks | of_gpus
