"""From paths to a Run: a run folder of shardprof's, a folder of traces that other tools made, or one trace."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shardprof.errors import ShardprofError, UnreadableTraceError
from shardprof.trace.files import (
    CACHE_FOLDER,
    AnyPlace,
    Place,
    RemoteFile,
    is_trace_name,
    place,
    remote_files,
    traces_among,
)
from shardprof.trace.nccl.foreign import nccl_files
from shardprof.trace.place import PLACE_FILE
from shardprof.trace.quality import Quality
from shardprof.trace.reading import USUAL_READING, Reading, in_parallel, memory_cost_bytes
from shardprof.trace.schema import (
    HOST_FILE,
    RANK_FILE,
    RUN_FILE,
    STEPS_FILE,
    TIMELINE_FILE,
    HostRecord,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    last_attempt,
    read_steps,
    read_whole,
)
from shardprof.words import numbers

if TYPE_CHECKING:
    from shardprof.trace.importers.kineto import KinetoTrace
    from shardprof.trace.nccl.process import NcclRecords
    from shardprof.trace.nccl.ring import Records, State

RUNS_FOLDER = Path("shardprof-runs")
_MADE_FOLDERS = (CACHE_FOLDER, "tensorboard", "wandb")
"""Folders in a run that are made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTraces:
    """One rank: its traces (one a captured window, perhaps none) and what was always recorded of it.

    `machine` names the one whose clock it has, as far as a recorder told.
    """

    rank: int
    host: str | None
    record: RankRecord | None
    steps: tuple[StepRecord, ...]
    traces: tuple[KinetoTrace, ...]
    machine: str | None = None
    nccl_folder: Path | None = None
    nccl_records: NcclRecords | None = None
    quality: tuple[Quality, ...] = ()

    def nccl(self) -> NcclRecords | None:
        """What NCCL itself told of it, read at each call unless it is all that there is; None where that is nothing."""
        if self.nccl_records is not None:
            return self.nccl_records
        if self.record is None or self.nccl_folder is None:
            return None
        from shardprof.trace.nccl.process import read_process  # with NumPy, see _read_traces

        return read_process(self.nccl_folder, self.record)

    def nccl_proxies(self) -> tuple[Records, State] | None:
        """What NCCL's proxy threads did, read at each call; None where that was not asked for."""
        if self.record is None or self.nccl_folder is None or not self.nccl_folder.is_dir():
            return None
        from shardprof.trace.importers.nccl_plugin import read_proxies  # with NumPy, see _read_traces

        return read_proxies(self.nccl_folder, str(self.record.pid))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFolder:
    """One node of a recorded run: its launcher's record and where its counters lie."""

    name: str
    record: HostRecord | None
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSource:
    """Where a rank's files are. `rank` is None until a trace of other tools has been read."""

    rank: int | None
    host: str | None
    record: RankRecord | None
    steps_file: Path | None
    trace_files: tuple[Place, ...]
    machine: str | None = None
    nccl_folder: Path | None = None
    nccl_file: Path | None = None


_Read = tuple[RankSource, "list[KinetoTrace]", list[Quality]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded training: what is known of it as a whole, and its ranks, read one at a time."""

    paths: tuple[Place, ...]
    record: RunRecord | None
    hosts: tuple[HostFolder, ...]
    quality: tuple[Quality, ...]
    reading: Reading
    sources: tuple[RankSource, ...]

    def ranks(self, lost: list[Quality], only: int | None = None) -> Iterator[RankTraces]:
        """Every rank; those ahead are read at the same time, as far as `reading` lets them. Where `only` one is asked
        for, what is known to be of another is not read.

        What is doubtful about files that give no rank is appended to `lost`. Raises ShardprofError where two files
        claim one rank or nothing can be read.
        """
        if any(source.nccl_file for source in self.sources):
            yield from _of_other_tools(self.sources, self.reading, lost)
            return
        taken: dict[int, Place] = {}
        nameless = []
        alone = len(self.sources) == 1
        wanted = [source for source in self.sources if only is None or source.rank in (None, only)]
        for source, traces, doubts in itertools.chain.from_iterable(map(_by_rank, self._read(wanted))):
            rank = traces[0].rank if source.rank is None and traces else source.rank
            if not traces and source.steps_file is None:
                lost += doubts
            elif rank is None and alone and not traces[0].distributed_info:  # no sign of a job of several ranks
                yield _rank_traces(source, 0, traces, doubts, taken)
            elif rank is None and not alone:
                nameless.append(source)
            else:
                yield _rank_traces(source, rank, traces, doubts, taken)
        for source, traces, doubts in self._read(nameless):  # again, now that it is known which ranks are free
            yield _rank_traces(source, None, traces, doubts, taken)
        if not taken:
            places = ", ".join(str(path) for path in self.paths)
            raise UnreadableTraceError(f"none of the files in {places} is a trace", "name a trace or a run folder")

    def recorded(self, ranks: Collection[int] | None = None) -> Iterator[RankTraces]:
        """Every rank of a recorded run, or some, with what was always recorded of it; its traces are not read."""
        for source in self.sources:
            if source.rank is not None and source.steps_file is not None and (ranks is None or source.rank in ranks):
                yield _rank_traces(source, source.rank, [], [], {})

    def inputs(self) -> list[Place]:
        """Every file that what is told of the run depends on."""
        traces = [file for source in self.sources for file in source.trace_files]
        is_recorded = any(source.steps_file for source in self.sources)
        folders = {path for path in self.paths if isinstance(path, Path) and path.is_dir()} if is_recorded else set()
        files = (file for folder in folders for file in folder.rglob("*") if not _is_made(file.relative_to(folder)))
        records = (file for file in files if file.name not in (PLACE_FILE, TIMELINE_FILE))
        return [*traces, *sorted(file for file in records if file.is_file())]

    def _read(self, sources: Sequence[RankSource]) -> Iterator[_Read]:
        alone = len(self.sources) == 1
        return in_parallel(
            sources,
            lambda source: memory_cost_bytes(source.trace_files),
            lambda source: (source, *_read_traces(source, self.reading, alone=alone)),
            self.reading,
        )


def _is_made(file: Path) -> bool:
    """Whether a file of a run is made of the others."""
    return file.parts[0] in _MADE_FOLDERS


def load(paths: Sequence[str | os.PathLike[str]], reading: Reading = USUAL_READING) -> Run:
    """The run in `paths`, or behind these URLs: none is the newest under shardprof-runs/, several are the nodes of one.

    Raises ShardprofError where there is nothing to read.
    """
    try:
        runs = [_load_one(place(path), reading) for path in paths or [newest_run()]]
    except OSError as error:
        raise ShardprofError(f"{error.filename} cannot be read: {error.strerror}", "look at its permissions") from error
    if len(runs) == 1:
        return runs[0]
    runs = _with_distinct_hosts(runs)
    return Run(
        paths=tuple(path for run in runs for path in run.paths),
        record=next((run.record for run in runs if run.record), None),
        hosts=tuple(host for run in runs for host in run.hosts),
        quality=tuple(doubt for run in runs for doubt in run.quality),
        reading=reading,
        sources=tuple(_sorted_sources([source for run in runs for source in run.sources])),
    )


def newest_run() -> Path:
    """The run under shardprof-runs/ that was written to last. Raises ShardprofError where there is none."""
    runs = _runs_in(RUNS_FOLDER)
    if not runs:
        raise ShardprofError(
            f"there is no recorded run in {RUNS_FOLDER}/", "record one: shardprof record -- torchrun ... train.py"
        )
    return runs[-1]


def _runs_in(folder: Path) -> list[Path]:
    """The run folders in a folder, the newest last."""
    records = sorted(folder.glob(f"*/{RUN_FILE}"), key=lambda file: file.stat().st_mtime_ns)
    return [record.parent for record in records]


def _load_one(path: Place, reading: Reading) -> Run:
    if isinstance(path, RemoteFile):
        return _foreign(path, _traces_among(remote_files(path), path), reading)
    if not path.exists():
        raise ShardprofError(f"{path} does not exist", "name a run folder, a folder of traces or a trace file")
    if path.is_file():
        return _nccl_only(path, [path], reading) or _foreign(path, [path], reading)
    if not path.is_dir():
        raise ShardprofError(f"{path} is neither a file nor a folder", "a trace in a pipe: write it to a file first")
    if (path / "ranks").is_dir() or (path / RUN_FILE).exists():
        return _recorded(path, reading)
    if runs := _runs_in(path):
        raise ShardprofError(f"{path} holds {len(runs)} recorded runs", f"name one of them; the newest is {runs[-1]}")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    only_nccl = (
        None if any(not nccl_files([file]) for file in traces_among(files)) else _nccl_only(path, files, reading)
    )
    return only_nccl or _foreign(path, _traces_among(files, path), reading)


def _traces_among(files: Sequence[AnyPlace], where: Place) -> Sequence[AnyPlace]:
    traces = files if [where] == list(files) else traces_among(files)
    if not traces:
        hint = "a trace is a .json, .json.gz or .json.zst file of torch.profiler"
        raise ShardprofError(f"there are no traces in {where}", hint)
    return traces


def _nccl_only(path: Path, files: Sequence[Path], reading: Reading) -> Run | None:
    """A run of which nothing is there but what other tools wrote down of NCCL; None where it is none."""
    found = nccl_files(files)
    sources = [
        RankSource(rank=None, host=None, record=None, steps_file=None, trace_files=(file,), nccl_file=file)
        for file in found
    ]
    if not sources:
        return None
    return Run(paths=(path,), record=None, hosts=(), quality=(), reading=reading, sources=tuple(sources))


def _of_other_tools(sources: Sequence[RankSource], reading: Reading, lost: list[Quality]) -> Iterator[RankTraces]:
    """The ranks of such a run; a file that tells no rank is of the first that is free."""
    from shardprof.trace.nccl.process import read_file  # with NumPy, see _read_traces

    taken: set[int] = set()
    for source in sources:
        try:
            told = read_file(source.nccl_file, reading.rank_regex) if source.nccl_file else None
        except (OSError, UnreadableTraceError) as error:
            lost.append(Quality(code="unreadable_trace", message=str(error)))
            continue
        if told is None:
            continue
        rank, records = told
        if rank is None or rank in taken:
            rank = next(free for free in itertools.count() if free not in taken)
        taken.add(rank)
        yield RankTraces(rank=rank, host=None, record=None, steps=(), traces=(), nccl_records=records)
    if not taken:
        places = ", ".join(str(source.nccl_file) for source in sources[:3])
        raise UnreadableTraceError(f"nothing of NCCL can be read in {places}", "name a trace or a run folder")


def _foreign(path: Place, files: Sequence[Place], reading: Reading) -> Run:
    sources = [RankSource(rank=None, host=None, record=None, steps_file=None, trace_files=(file,)) for file in files]
    return Run(paths=(path,), record=None, hosts=(), quality=(), reading=reading, sources=tuple(sources))


def _recorded(path: Path, reading: Reading) -> Run:
    folder = RunFolder(path)
    doubts: list[Quality] = []
    try:
        record = read_whole(RunRecord, folder.run_file)
    except (OSError, ValueError, TypeError):
        record = None
        doubts.append(Quality(code="run_record", message="run.json is missing or damaged; the ranks' files are used"))
    sources = [_recorded_rank(folder, rank_folder) for rank_folder in folder.rank_folders()]
    if not sources:
        raise ShardprofError(
            f"{path} is a run in which no rank was recorded", "its run.json and the recording's last lines say why"
        )
    remaining = last_attempt(source.record for source in sources if source.record)
    gone = [source for source in sources if source.record and source.record not in remaining]
    if gone:
        ranks = numbers(source.record.rank for source in gone if source.record)
        message = f"ranks that the job no longer had after it was started again with {remaining[0].world_size}: {ranks}"
        doubts.append(Quality(code="ranks_gone", message=message, count=len(gone)))
    recorders = [_host(host_folder) for host_folder in folder.host_folders()]
    hosts = [host for host in recorders if host.record is None or host.record.beside is None]
    machines = {host.name: host.record.machine for host in recorders if host.record}
    return Run(
        paths=(path,),
        record=record,
        hosts=tuple(hosts),
        quality=tuple(doubts),
        reading=reading,
        sources=tuple(
            _sorted_sources([replace(s, machine=machines.get(s.host or "", s.host)) for s in sources if s not in gone])
        ),
    )


def _host(folder: Path) -> HostFolder:
    try:
        record = read_whole(HostRecord, folder / HOST_FILE)
    except (OSError, ValueError, TypeError):
        record = None
    return HostFolder(name=folder.name, record=record, folder=folder)


def _recorded_rank(run: RunFolder, folder: Path) -> RankSource:
    try:
        record = read_whole(RankRecord, folder / RANK_FILE)
    except (OSError, ValueError, TypeError):
        record = None
    files = [file for file in sorted(folder.glob("trace*.json*")) if is_trace_name(file.name)]
    own = {_without_packing(file.name): file for file in files}
    traces = [own[name] for name in sorted(own, key=lambda name: (len(name), name))]  # trace.json, .1, .2, ... .10
    exported = [Path(window.file) for window in record.windows if window.profiler == "user"] if record else []
    return RankSource(
        rank=record.rank if record else int(folder.name),
        host=record.host if record else None,
        record=record,
        steps_file=folder / STEPS_FILE,
        trace_files=(*traces, *exported),
        nccl_folder=run.nccl(record.host) if record else None,
    )


def _without_packing(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".zst")


def _read_traces(source: RankSource, how: Reading, *, alone: bool) -> tuple[list[KinetoTrace], list[Quality]]:
    from shardprof.trace.importers.kineto import read_kineto  # with NumPy, which a report that was kept does without
    from shardprof.trace.importers.timeline import is_timeline, read_timeline

    traces, doubts = [], []
    for file in source.trace_files:
        try:
            trace = read_kineto(file, how)
            if is_timeline(trace.events):
                traces += read_timeline(file, how)
                continue
        except UnreadableTraceError as error:
            if alone and source.steps_file is None:
                raise
            doubts.append(Quality(code="unreadable_trace", message=error.message))
            continue
        traces.append(trace)
        doubts.extend(trace.quality)
    return traces, doubts


def _by_rank(read: _Read) -> Iterator[_Read]:
    """A file that holds several ranks, as one of each."""
    source, traces, doubts = read
    if source.rank is not None or len(traces) < 2:
        yield read
        return
    for trace in traces:
        yield replace(source, machine=str(trace.path)), [trace], doubts


def _rank_traces(
    source: RankSource, rank: int | None, traces: list[KinetoTrace], doubts: list[Quality], taken: dict[int, Place]
) -> RankTraces:
    """The rank that a source gives; without a `rank` it is the first free one."""
    file: Place = traces[0].path if traces else Path(str(source.steps_file))
    if rank is None:
        rank = next(free for free in range(len(taken) + 1) if free not in taken)
        message = f"{file.name} does not tell its rank; it is called {rank}"
        doubts = [*doubts, Quality(code="rank_unknown", message=message)]
    if rank in taken:
        raise ShardprofError(
            f"{taken[rank]} and {file} both say that they are rank {rank}",
            "report one job at a time, and of one that exported several windows one window at a time",
        )
    taken[rank] = file
    return RankTraces(
        rank=rank,
        host=source.host,
        record=source.record,
        steps=tuple(read_steps(source.steps_file)) if source.steps_file else (),
        traces=tuple(traces),
        machine=source.machine,
        nccl_folder=source.nccl_folder,
        quality=tuple(doubts),
    )


def _sorted_sources(sources: list[RankSource]) -> list[RankSource]:
    return sorted(sources, key=lambda source: (source.rank is None, source.rank or 0))


def _with_distinct_hosts(runs: list[Run]) -> list[Run]:
    """Nodes of one name, in several run folders, are told apart by a number."""
    seen: Counter[str] = Counter()
    renamed = []
    for run in runs:
        seen.update(host.name for host in run.hosts)
        names = {host.name: f"{host.name}-{seen[host.name]}" for host in run.hosts if seen[host.name] > 1}
        hosts = tuple(replace(host, name=names.get(host.name, host.name)) for host in run.hosts)
        sources = tuple(replace(source, host=names.get(source.host or "", source.host)) for source in run.sources)
        renamed.append(replace(run, hosts=hosts, sources=sources))
    return renamed
