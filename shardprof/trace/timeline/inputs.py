"""What a timeline is made of: the traces of every rank, read once and sorted, and where its records lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from shardprof.errors import UnreadableTraceError
from shardprof.trace.files import Place, pure_path
from shardprof.trace.nccl.process import NcclRecords, read_process
from shardprof.trace.quality import Quality
from shardprof.trace.rank_of_file import rank_of_file
from shardprof.trace.run import Run
from shardprof.trace.schema import STACKS_FILE, TIMELINE_FILE, RankRecord, StepRecord, read_lines, read_steps
from shardprof.trace.timeline.capture import Capture
from shardprof.trace.timeline.sorted_rows import RowStore


@dataclass(slots=True, kw_only=True)
class RankInput:
    """One rank: its traces, its sampled stacks where there are any, what was always recorded."""

    rank: int
    host: str | None = None
    record: RankRecord | None = None
    steps_file: Path | None = None
    nccl_folder: Path | None = None
    captures: list[Capture] = field(default_factory=list)
    stacks: list[Capture] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What its processes are called."""
        return f"rank {self.rank} · {self.host}" if self.host else f"rank {self.rank}"

    def steps(self) -> list[StepRecord]:
        """Its steps."""
        return read_steps(self.steps_file) if self.steps_file else []

    def nccl(self) -> NcclRecords | None:
        """What NCCL itself told of it."""
        if self.record is None or self.nccl_folder is None:
            return None
        return read_process(self.nccl_folder, self.record)

    def begins_ns(self) -> Iterator[int]:
        """When each of its parts begins."""
        yield from (capture.first_ns for capture in (*self.captures, *self.stacks) if capture.tracks)
        if self.steps_file:
            yield from (step.begin_ns for step in [next(read_lines(StepRecord, self.steps_file), None)] if step)


def read_ranks(run: Run, store: RowStore, doubts: list[Quality]) -> list[RankInput]:
    """The ranks of a run, in order; what could not be read of them is appended to `doubts`.

    Several traces of one rank are windows of it; one that tells no rank is of the first free one. Raises
    UnreadableTraceError where there is no rank.
    """
    ranks: dict[int, RankInput] = {}
    nameless = []
    numbers = count()
    for source in run.sources:
        captures = list(_captures(source.trace_files, numbers, store, doubts))
        if source.rank is None:
            nameless += [capture for capture in captures if not _is_told(capture, run, ranks)]
            continue
        stacks = [source.steps_file.with_name(STACKS_FILE)] if source.steps_file else []
        ranks[source.rank] = RankInput(
            rank=source.rank,
            host=source.host,
            record=source.record,
            steps_file=source.steps_file,
            nccl_folder=source.nccl_folder,
            captures=captures,
            stacks=list(_captures([file for file in stacks if file.exists()], numbers, store, doubts)),
        )
    for capture in nameless:
        free = next(rank for rank in count() if rank not in ranks)
        ranks[free] = RankInput(rank=free, captures=[capture])
    if not ranks:
        message = doubts[0].message if doubts else "there are no traces"
        raise UnreadableTraceError(message, "name a run folder, a folder of traces or a trace file")
    return [ranks[rank] for rank in sorted(ranks)]


def _is_told(capture: Capture, run: Run, ranks: dict[int, RankInput]) -> bool:
    """Give a trace of other tools to the rank that it tells, if it tells one."""
    rank = rank_of_file(capture.members, pure_path(capture.file), run.reading.rank_regex)
    if rank is None:
        return False
    ranks.setdefault(rank, RankInput(rank=rank)).captures.append(capture)
    return True


def _captures(
    files: Iterable[Place], numbers: Iterator[int], store: RowStore, doubts: list[Quality]
) -> Iterator[Capture]:
    """The traces that can be read."""
    for file in files:
        if file.name == TIMELINE_FILE:
            continue
        try:
            capture = Capture(file, next(numbers), store)
        except UnreadableTraceError as error:
            doubts.append(Quality(code="unreadable_trace", message=str(error)))
            continue
        except OSError as error:
            message = f"{file} cannot be read: {error.strerror or error}"
            doubts.append(Quality(code="unreadable_trace", message=message))
            continue
        if capture.lost_events:
            message = f"events of {file.name} that are damaged or have no time are left out"
            doubts.append(Quality(code="lost_events", message=message, count=capture.lost_events))
        yield capture
