"""What stands in a timeline, process by process: every rank in the order of nodes, then the nodes themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from typing import Any, BinaryIO

from shardprof.errors import UnreadableTraceError
from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.across.joined import Joined
from shardprof.trace.files import Place
from shardprof.trace.quality import Quality
from shardprof.trace.run import HostFolder, Run
from shardprof.trace.schema import COUNTERS_FILE, CounterRecord, read_lines
from shardprof.trace.timeline.capture import ALL, Capture, Kept
from shardprof.trace.timeline.captured_tracks import CapturedTracks
from shardprof.trace.timeline.choice import Choice
from shardprof.trace.timeline.clocks import brought_near
from shardprof.trace.timeline.counter_tracks import CounterTracks, Home
from shardprof.trace.timeline.flows import Flows, meetings_of
from shardprof.trace.timeline.nccl_tracks import NcclTracks
from shardprof.trace.timeline.overview import KEPT_WHEN_SLIM, RankOverview, Window
from shardprof.trace.timeline.rank_tracks import ClassTracks, RecordedTracks
from shardprof.trace.timeline.remarks import Remark, RemarkTrack
from shardprof.trace.timeline.sorted_rows import RowStore
from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import TimelineWriter
from shardprof.words import numbers

_MARGIN_NS = 10**9
_REPORTS = "watchdog/*/report.txt"
_OLD_NAMES = ("Kernel", "Memcpy", "Memset")
"""What Kineto called them before 2022."""
_SLIM = frozenset((*KEPT_WHEN_SLIM, *_OLD_NAMES))


class Contents:
    """The ranks of a run, `joined` in time where there are several, of whose events `choice` are shown."""

    def __init__(
        self, run: Run, ranks: Sequence[RankOverview], joined: Joined | None, choice: Choice, doubts: list[Quality]
    ) -> None:
        self._hosts = run.hosts
        hosts = [host.name for host in run.hosts]
        self._ranks = sorted(ranks, key=lambda rank: (_position(rank.told.host, hosts), rank.rank))
        self._choice = choice
        self._doubts = doubts
        tied = {clock.rank: clock for clock in joined.parts} if joined else {}
        self._clocks, apart = brought_near(tied, {rank.rank: begin for rank in ranks if (begin := _begin_ns(rank))})
        if apart:
            message = f"ranks whose clock is days away from that of the first one begin with it: {numbers(apart)}"
            doubts.append(Quality(code="clocks_far_apart", message=message, count=len(apart)))
        windows = [window for rank in ranks for window in rank.windows if window.calls]
        self._met = meetings_of(joined, windows) if joined else {}
        self._several = Counter(window.file for rank in ranks for window in rank.windows)
        self._flows = Flows()

    def write(self, file: BinaryIO, store: RowStore, remarks: Sequence[Remark], told: Any) -> int:
        """Write all of it; how many events that are. What could not be read is appended to the doubts."""
        writer = TimelineWriter(file, self.begin_ns(), told)
        captures = _Captures(store, self._doubts)
        processes = {}
        for rank in self._ranks:
            process = processes[rank.rank] = writer.process(_title(rank), self._clocks.get(rank.rank))
            own = [remark for remark in remarks if remark.rank == rank.rank]
            self._write_rank(writer, process, rank, own, captures)
        self._write_shared_files(writer, captures)
        for host in self._hosts:
            self._write_host(writer, host, processes, [remark for remark in remarks if remark.host == host.name])
        self._flows.write(writer)
        writer.finish()
        return writer.events

    def shown_ns(self) -> tuple[int, int] | None:
        """Where to look first: the captured steps that are shown, without any those that were recorded; relative to the
        begin; None where there are none."""
        begin_ns = self.begin_ns()
        spans = [*self._captured_spans()] or [
            (rank.rank, step.begin_ns, step.end_ns) for rank in self._ranks for step in rank.told.steps
        ]
        times_ns = [_on(self._clocks.get(rank), time_ns) - begin_ns for rank, *span in spans for time_ns in span]
        return (min(times_ns), max(times_ns)) if times_ns else None

    def _captured_spans(self) -> Iterator[tuple[int, int, int]]:
        """Rank, begin and end of each."""
        for rank in self._ranks:
            for window in rank.windows if self._choice.shows(rank.rank) else ():
                for number, (begin_ns, end_ns) in zip(window.steps.numbers, window.steps.windows.tolist(), strict=True):
                    if self._choice.steps is None or number in self._choice.steps:
                        yield rank.rank, window.base_ns + begin_ns, window.base_ns + end_ns

    def begin_ns(self) -> int:
        """Before everything: times relative to it are short enough for a viewer to keep their nanoseconds, and none is
        negative, which viewers drop. What is no slice may stand before all slices."""
        begins_ns = [
            _on(self._clocks.get(rank.rank), begin_ns)
            for rank in self._ranks
            for begin_ns in (
                *(w.base_ns + w.first_ns for w in rank.windows),
                *(s.begin_ns for s in rank.told.steps[:1]),
            )
        ]
        for host in self._hosts:
            first = next(read_lines(CounterRecord, host.folder / COUNTERS_FILE), None)
            begins_ns += [_on(self._clock_of(host), first.time_ns)] if first else []
        return max(min(begins_ns, default=0) - _MARGIN_NS, 0)

    def _write_rank(
        self, writer: TimelineWriter, process: int, rank: RankOverview, remarks: Sequence[Remark], captures: _Captures
    ) -> None:
        """All its tracks are made before anything is written on one."""
        tracks: list[ClassTracks | RemarkTrack | RecordedTracks | NcclTracks] = [
            ClassTracks(writer, process, rank.rank, rank.windows),
            RemarkTrack(writer, process, remarks),
            RecordedTracks(writer, process, rank.told.steps),
            *self._nccl(writer, process, rank),
        ]
        met = self._met.get(rank.rank, {})
        captured = [
            self._captured(writer, process, rank, captures),
            self._stacks(writer, process, rank, captures),
        ]
        writer.name_tracks()
        for track in tracks:
            track.write()
        for events in captured:
            events.write(met, self._flows)

    def _captured(
        self, writer: TimelineWriter, process: int, rank: RankOverview, captures: _Captures
    ) -> CapturedTracks:
        own = [window for window in rank.windows if self._several[window.file] == 1 and self._choice.shows(rank.rank)]
        read = [capture for window in own if (capture := captures.of(window.file, self._kept(window)))]
        known = {track: name for window in own for track, name in window.tracks.items()}
        return CapturedTracks(writer, lambda _: process, read, known)

    def _stacks(self, writer: TimelineWriter, process: int, rank: RankOverview, captures: _Captures) -> CapturedTracks:
        found = captures.of(rank.stacks, ALL) if rank.stacks else None
        known = {"/".join(track): (int(Shelf.STACKS), "stacks") for track in found.tracks} if found else {}
        return CapturedTracks(writer, lambda _: process, [found] if found else [], known)

    def _nccl(self, writer: TimelineWriter, process: int, rank: RankOverview) -> Iterator[NcclTracks]:
        records = rank.told.nccl()
        if records is None:
            return
        captured_ns = [(step.begin_ns, step.end_ns) for step in rank.told.steps if step.captured]
        tracks = NcclTracks(writer, process, records.operations, captured_ns)
        if tracks.left_out:
            message = f"operations of NCCL on rank {rank.rank} are left out but for the last"
            self._doubts.append(Quality(code="nccl_left_out", message=message, count=tracks.left_out))
        yield tracks

    def _write_shared_files(self, writer: TimelineWriter, captures: _Captures) -> None:
        """Files of several ranks: their processes as they name them."""
        for file in (file for file, ranks in self._several.items() if ranks > 1):
            found = captures.of(file, ALL)

            @cache
            def home(process: str, name: str = file.name) -> int:
                return writer.process(f"{name} · process {process}")

            if found:
                tracks = CapturedTracks(writer, home, [found], {})
                writer.name_tracks()
                tracks.write({}, self._flows)

    def _kept(self, window: Window) -> Kept:
        shown = self._choice.windows(window)
        is_slim = self._choice.slim and window.slim_events < window.events
        return Kept(
            windows=None if shown is None else [(begin, end) for begin, end in shown.tolist()],
            categories=_SLIM if is_slim else None,
        )

    def _write_host(
        self, writer: TimelineWriter, host: HostFolder, processes: dict[int, int], remarks: Sequence[Remark]
    ) -> None:
        own = writer.process(f"host {host.name}", self._clock_of(host))
        homes = self._homes(host, processes)
        CounterTracks(writer, lambda subject: homes.get(subject, (own, f"{subject} · "))).write(host.folder)
        RemarkTrack(writer, own, remarks).write()
        reports = sorted(host.folder.glob(_REPORTS))
        thread = writer.thread(own, "watchdog", Shelf.EVENTS) if reports else 0
        for report in reports:
            name, _, told = report.read_text(errors="replace").partition("\n")
            writer.instant(own, thread, "watchdog", name, report.stat().st_mtime_ns, {"report": told})

    def _homes(self, host: HostFolder, processes: dict[int, int]) -> dict[str, Home]:
        """Where the subjects belong that are of one rank: itself, and the GPU that it computes on."""
        of_ranks = {f"rank {rank}": (process, "") for rank, process in processes.items()}
        here = [(rank, rank.told.record) for rank in self._ranks if rank.told.host == host.name]
        uuids = {record.device_uuid: rank.rank for rank, record in here if record and record.device_uuid}
        devices = host.record.devices if host.record else ()
        of_gpus = {d.subject: (processes[uuids[d.uuid]], f"{d.subject} · ") for d in devices if d.uuid in uuids}
        return of_ranks | of_gpus

    def _clock_of(self, host: HostFolder) -> RankClock | None:
        """A node's clock is that of its ranks."""
        here = (rank.rank for rank in self._ranks if rank.told.host == host.name)
        return next((self._clocks[rank] for rank in here if rank in self._clocks), None)


class _Captures:
    """Traces, read once each into a store; what is doubtful about them is appended to `doubts`."""

    def __init__(self, store: RowStore, doubts: list[Quality]) -> None:
        self._store = store
        self._doubts = doubts
        self._numbers = count(1)

    def of(self, file: Place, kept: Kept) -> Capture | None:
        """The events of a file that are wanted; None where it cannot be read."""
        try:
            capture = Capture(file, next(self._numbers), self._store, kept)
        except UnreadableTraceError as error:
            self._doubts.append(Quality(code="unreadable_trace", message=str(error)))
            return None
        except OSError as error:
            message = f"{file} cannot be read: {error.strerror or error}"
            self._doubts.append(Quality(code="unreadable_trace", message=message))
            return None
        return capture


def _title(rank: RankOverview) -> str:
    return " · ".join(filter(None, (f"rank {rank.rank}", rank.told.host, rank.role)))


def _position(host: str | None, hosts: Sequence[str]) -> int:
    return hosts.index(host) if host in hosts else len(hosts)


def _begin_ns(rank: RankOverview) -> int | None:
    """When the first of all that is told of a rank begins, on its own clock."""
    begins_ns = [window.base_ns + window.first_ns for window in rank.windows]
    return min([*begins_ns, *(step.begin_ns for step in rank.told.steps[:1])], default=None)


def _on(clock: RankClock | None, time_ns: int) -> int:
    return time_ns if clock is None else clock.on_reference(time_ns)
