"""Runs for people who read them in Python: what `shardprof.load` gives, as Polars frames and for HTA, and what
`shardprof.compare` says of two. A notebook shows either as a short report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shardprof.analysis.cache import report_of
from shardprof.analysis.comparing import compare as comparing
from shardprof.analysis.comparing.comparison import Comparison
from shardprof.analysis.comparing.measured import Measured, measured, measured_run
from shardprof.analysis.nodes import Nodes
from shardprof.analysis.result import Result
from shardprof.errors import ShardprofError
from shardprof.extras import require
from shardprof.render import _notebook
from shardprof.render._headline import headline, verdict_lines
from shardprof.trace import run as trace_run
from shardprof.trace.files import Place
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.quality import Quality

if TYPE_CHECKING:
    from typing import TypeAlias

    import polars as pl
    from hta.trace_analysis import TraceAnalysis

    AnyRun: TypeAlias = "str | os.PathLike[str] | Run"

_HTA_SUFFIXES = (".json", ".json.gz")


def load(paths: Sequence[str | os.PathLike[str]]) -> Run:
    """The run in `paths`, read and analysed. Raises ShardprofError where there is nothing to read."""
    run = trace_run.load(paths)
    return Run(result=report_of(run), _run=run)


def compare(a: AnyRun | Sequence[AnyRun], b: AnyRun | Sequence[AnyRun]) -> Compared:
    """What changed from A to B. Raises ShardprofError where there is nothing to read, or a side has no run."""
    sides = [[_measured(run) for run in _several(side)] for side in (a, b)]
    if not all(sides):
        raise ShardprofError("two runs are compared, or two groups", "name at least one of each side")
    told = comparing.compare(*sides)
    return Compared(**{field.name: getattr(told, field.name) for field in dataclasses.fields(told) if field.init})


def _several(side: AnyRun | Sequence[AnyRun]) -> Sequence[AnyRun]:
    return [side] if isinstance(side, str | os.PathLike | Run) else side


def _measured(run: AnyRun) -> Measured:
    if isinstance(run, Run):
        return measured_run(run._run, run.result, with_work=True)
    return measured([run], with_work=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compared(Comparison):
    """A comparison, as `shardprof compare --format json` has it; docs/compare.md tells what every figure means."""

    def __repr__(self) -> str:
        return _notebook.comparison_text(self)

    def _repr_html_(self) -> str:
        return _notebook.comparison_html(self)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run:
    """A recorded training, or traces of one: its report as `result`, and frames of what the report rests on.

    Frames are Polars frames (the extra `frames`); `.to_pandas()` makes pandas frames of them. Times are integer
    nanoseconds (`_ns`), sizes bytes (`_bytes`), shares percent (`_pct`); null is "not measured". Numbers are Int64
    unless something else is said. docs/definitions.md tells what every figure means.

    `steps` and `breakdown` are made of `result`; `events`, `collectives`, `nccl` and `hta` read what there is again at
    each call, `recorded_steps` the records of every step. Methods that make a frame raise ShardprofError where Polars
    is not installed.
    """

    result: Result
    _run: trace_run.Run

    def __repr__(self) -> str:
        places = ", ".join(map(repr, self.result.source.paths))
        steps = sum(len(rank.steps) for rank in self.result.ranks)
        return "\n".join([f"Run({places}, ranks={len(self.ranks)}, steps={steps})", *verdict_lines(self.result)])

    def _repr_html_(self) -> str:
        return _notebook.report_html(self.result)

    @property
    def headline(self) -> str:
        """What bounds it, its key figures and what would win most, in a few lines."""
        return "\n".join(headline(self.result))

    @property
    def ranks(self) -> list[int]:
        """The ranks that there is something of, in ascending order."""
        return [rank.rank for rank in self.result.ranks]

    @property
    def quality(self) -> tuple[Quality, ...]:
        """What was lost or is doubtful; read it before you trust a figure."""
        return self.result.quality

    def events(self, rank: int | None = None) -> pl.DataFrame:
        """A row an event with a duration of one rank, or of all, in the order of the files.

        rank               the rank
        name, category     Categorical: Kineto's, in the words of today; Python functions are left out
        begin_rel_ns, end_rel_ns
                           on the rank's own clock, relative to base_ns
        base_ns            since the epoch, so that base_ns + begin_rel_ns is too; 0 in traces without a base
        thread             Categorical: "pid/tid"; of GPU activities "device/stream"
        stream             of GPU activities; null where there is none
        correlation        the same number on a launch and on what it launched; null where there is none
        external_id        the same number on an operator and on its launches; null where there is none

        Nothing is copied: the columns are those that the reader made, and live as long as a frame does. Several
        traces are chunks of one frame, for which rank, base_ns and the codes of name, category and thread are made
        anew (at most 28 bytes an event). Each call has its own codes: to put names of two frames together, cast them
        to pl.String. Raises ShardprofError where there is no such rank.
        """
        require("polars", extra="frames")
        from shardprof import tables

        if rank is not None and rank not in self.ranks:
            raise ShardprofError(f"there is no rank {rank}", "`.ranks` tells which there are")
        return tables.events(self._traces(rank))

    def steps(self) -> pl.DataFrame:
        """A row a captured step of a rank.

        rank, host         the rank; the node's name (String), null where it was not recorded
        step               the step's number
        begin_ns, wall_ns  begin, since the epoch on the rank's own clock; length
        busy_ns, compute_ns, comm_ns, overlap_ns
                           unions, clipped to the step: of any activity, of compute, of communication of any kind,
                           of communication under compute
        partition_compute_ns, partition_all_gather_ns, ..., partition_idle_ns
                           where wall_ns went, by class: they sum to it; those of communication are what is exposed
        empty              Boolean: the step holds no work
        counter_...        Float64, in recorded runs: the counters of the rank's process and (counter_gpu_...) of its
                           GPU, means over the step, of totals the increase; shardprof/trace/counter_names.py has them
        """
        require("polars", extra="frames")
        from shardprof import tables

        return tables.steps(self.result.ranks)

    def recorded_steps(self) -> pl.DataFrame:
        """A row a step of a rank that `shardprof record` saw, captured or not; none for traces of other tools.

        rank, host         the rank; the node's name (String)
        step               the step's number
        begin_ns, wall_ns  begin, since the epoch on the rank's own clock; length
        data_ns, forward_ns, backward_ns, optimizer_ns
                           the phases on the main thread; null where they were not seen
        captured, profiling
                           Boolean: the profiler recorded the step; it was there, recording or warming up
        hook_ns, gc_ns     what recording took of it; what Python's garbage collector did
        cuda_...           on GPUs, of torch's allocator: cuda_allocated_bytes, cuda_peak_allocated_bytes, ...
        counter_...        Float64: as in `steps`
        """
        require("polars", extra="frames")
        from shardprof import tables

        nodes = Nodes(self._run.hosts)
        return tables.recorded_steps((rank, nodes.recorded_counters(rank)) for rank in self._run.recorded())

    def breakdown(self) -> pl.DataFrame:
        """A row a rank: what the time of its whole trace went to. Null where nothing ran in the trace.

        rank, host, device   the rank; the node's name (String); "cuda" or "cpu" (String)
        span_ns              from the begin of the first activity to the end of the last; HTA's kernel_time
        busy_ns, idle_ns     the union of all activities, and the rest of the span
        compute_ns, comm_ns, memcpy_ns, memset_ns
                             the union of each; they may overlap. HTA's non_compute_time is busy_ns - compute_ns
        exposed_comm_ns, overlap_ns
                             communication outside and under compute; they sum to comm_ns
        gpu_events           number of GPU activities
        busy_pct, idle_pct, compute_pct, comm_pct, exposed_comm_pct
                             Float64: shares of span_ns
        overlap_pct          Float64: share of comm_ns; null without communication. HTA's comp_comm_overlap_pctg

        A notebook shows it with a bar a rank.
        """
        require("polars", extra="frames")
        from shardprof import shown, tables

        return shown.Breakdown(tables.breakdown(self.result.ranks))

    def collectives(self) -> pl.DataFrame:
        """A row a collective of a rank, in or outside of steps, in the order of the traces.

        rank                       the rank
        kind                       String: all_gather, reduce_scatter, all_reduce, ... (the kinds of the partition)
        group, group_size          the process group's description (String) and number of ranks; null if not told
        launched_ns                when the CPU launched it, since the epoch on the rank's own clock
        begin_ns, end_ns           when it ran: waiting for other ranks is inside
        payload_bytes, wire_bytes  its size and what the rank sends for it; null where the trace does not tell
        algorithm, protocol        String: how NCCL ran it (RING, TREE, ...; SIMPLE, LL, ...)
        channels, transport        on how many channels and over what; these four are null where NCCL was not asked
        """
        require("polars", extra="frames")
        from shardprof import tables

        return tables.collectives(self._run.ranks([]))

    def nccl(self) -> pl.DataFrame:
        """A row an operation of NCCL on a rank, captured or not, as NCCL itself told it (docs/nccl.md).

        rank                       the rank
        kind, function             String: the kind of the partition, and NCCL's name
        group, group_size          the process group's description (String) and number of ranks; null if not told
        communicator               String: the hash that NCCL's communicator has on all its ranks
        sequence                   its number among those of its function and communicator
        payload_bytes, wire_bytes  its size and what the rank sends for it
        algorithm, protocol        String: RING, TREE, ...; SIMPLE, LL, ...
        channels, transport        on how many channels and over what
        called_ns, enqueued_ns     when the program asked for it, and when NCCL launched it
        begin_ns, end_ns           when it ran: waiting for other ranks is inside
        algbw_gbps, busbw_gbps     payload and its nccl-tests multiple by that time, in 1e9 bytes a second
        """
        require("polars", extra="frames")
        from shardprof import tables

        return tables.nccl(self._run.ranks([]))

    def nccl_proxies(self) -> pl.DataFrame:
        """A row a channel of an operation that went over the network, of runs recorded with `--nccl proxy`.

        rank, function, sequence   the operation, by its number among those of its function and communicator
        communicator               String: the hash that NCCL's communicator has on all its ranks
        channel, peer, sends       its channel, the other rank, whether this rank sends or receives
        steps, chunk_bytes         in how many steps of at most how much
        moved_bytes                what was handed to the network, or came from it
        begin_ns, end_ns           when the proxy thread began and ended
        gpu_wait_ns                all its steps together: for the GPU to fill a buffer or to take one
        peer_wait_ns               for the other side to have room
        network_wait_ns            for the network to send or to receive
        """
        require("polars", extra="frames")
        from shardprof import tables

        return tables.nccl_proxies(self._run.ranks([]))

    def hta(self) -> TraceAnalysis:
        """HolisticTraceAnalysis' own `TraceAnalysis` of the same files, rank by rank (the extra `hta`).

        Its figures are HTA's: it leaves the last of several steps out and rounds to microseconds. Raises
        ShardprofError where HTA is not installed, or where it cannot read a rank's traces as one local file.
        """
        require("hta", extra="hta")
        from hta.trace_analysis import TraceAnalysis

        files: dict[int, str] = {}
        for rank, trace in self._traces(None):
            if rank in files:
                raise ShardprofError(f"rank {rank} has several traces, HTA reads one a rank", "load one of its files")
            files[rank] = _local_file(trace.path)
        if not files:
            raise ShardprofError("there are no traces for HTA to read", "record a run in which steps are captured")
        return TraceAnalysis(trace_files=files)

    def _traces(self, rank: int | None) -> Iterator[tuple[int, KinetoTrace]]:
        """The traces of one rank, or of all, each read when it is asked for."""
        for of_rank in self._run.ranks([], only=rank):
            if rank in (None, of_rank.rank):
                yield from ((of_rank.rank, trace) for trace in of_rank.traces)
            if rank == of_rank.rank:
                return


def _local_file(place: Place) -> str:
    if not isinstance(place, Path) or not place.name.endswith(_HTA_SUFFIXES):
        raise ShardprofError(f"HTA cannot read {place}", "it reads .json and .json.gz files on this machine")
    return str(place.absolute())
