"""What lines of NCCL's log tell, put together: which process, which communicator, what belongs to what."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shardprof.trace.nccl import log_patterns as patterns
from shardprof.trace.nccl.log_calls import CallsBeingRead
from shardprof.trace.nccl.log_lines import INFO, PLAIN, WARN, Bytes, Line, lines_of
from shardprof.trace.nccl.log_meaning import code_of
from shardprof.trace.nccl.log_processes import ProcessBeingRead, Processes
from shardprof.trace.nccl.log_record import Call, LogCommunicator, LogProcess, LogWarning, NcclLog
from shardprof.trace.nccl.log_topology import Draft
from shardprof.trace.quality import Quality

MOST_COMMUNICATORS = 1 << 16
MOST_NOTES = 1 << 14
MOST_WARNINGS = 1 << 12
MOST_SETTINGS = 1 << 8
MOST_TOPOLOGY = 1 << 26
"""Characters of all lines that tell settings and connections: those of some thousand ranks."""


P2P = ("Send", "Recv")
"""Functions between two ranks, whose root is the other one."""

_NOT_ALIKE = re.compile(r"0x[0-9a-f]+|\d+")
_TORCH = re.compile(
    r"(?:\[Rank (?P<rank>\d{1,6})\] )?(?P<text>Watchdog caught collective operation timeout: .{1,300}"
    r"|nccl(?:UnhandledCuda|System|Remote|Internal)Error.{0,200}|ncclInvalid(?:Usage|Argument).{0,200}"
    r"|unhandled (?:system|cuda) error.{0,200})"
)


@dataclass(slots=True)
class _Warned:
    process: int
    text: str
    code: str
    time_ns: int | None
    count: int = 0


class LogReader:
    """Takes lines, keeps what they tell."""

    def __init__(self) -> None:
        self._lines = self._torn = self._lost = 0
        self._room = MOST_TOPOLOGY
        self._broken: list[str] = []
        self._nccl: dict[str, None] = {}
        self._runtime: dict[str, None] = {}
        self._is_rccl = False
        self._processes = Processes()
        self._communicators: list[LogCommunicator] = []
        self._drafts: dict[int, Draft] = {}
        self._live: dict[tuple[int, int], int] = {}
        self._drawn: dict[tuple[int, int | None], Draft] = {}
        self._called: dict[int, int] = {}
        self._notes: dict[tuple[int, str, str], None] = {}
        self._warned: dict[tuple[int, str, str], _Warned] = {}
        self._calls = CallsBeingRead()

    def read(self, path: str, source: Bytes) -> None:
        """Take all lines of a file."""
        try:
            for line in lines_of(source):
                self.take(line)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self._broken.append(path)

    def done(self) -> NcclLog:
        """What all lines told."""
        communicators = tuple(self._finished(index) for index in range(len(self._communicators)))
        ranks = self._processes.ranks(communicators)
        same = self._processes.same(ranks, {each.process for each in communicators})
        kept = [index for index in range(len(ranks)) if index not in same]
        place = {index: number for number, index in enumerate(kept)}
        return NcclLog(
            lines=self._lines,
            nccl=tuple(self._nccl),
            runtime=tuple(self._runtime),
            is_rccl=self._is_rccl,
            processes=tuple(_process(self._processes.all[index], ranks[index]) for index in kept),
            communicators=tuple(replace(each, process=place[each.process]) for each in communicators),
            notes=tuple((place[same.get(index, index)], topic, text) for index, topic, text in self._notes),
            warnings=tuple(
                _warning(warned, place[same.get(warned.process, warned.process)]) for warned in self._warned.values()
            ),
            calls=self._calls.done(),
            quality=tuple(self._quality()),
        )

    def _finished(self, index: int) -> LogCommunicator:
        draft = self._drafts.get(index) or Draft()
        return replace(self._communicators[index], topology=draft.done(), init_ns=draft.init_ns)

    def _quality(self) -> Iterable[Quality]:
        if self._torn:
            text = "lines that another rank's line cut short were left out; a file a rank (NCCL_DEBUG_FILE) has none"
            yield Quality(code="torn_lines", message=text, count=self._torn)
        for path in self._broken:
            yield Quality(code="truncated_log", message=f"{path} is damaged or ends early: what came before is used")
        if lost := self._lost + self._calls.lost:
            text = "lines told more than is kept of one log: calls, processes or warnings are missing"
            yield Quality(code="beyond_limits", message=text, count=lost)

    def take(self, line: Line) -> None:
        """Take one line."""
        if line.level == PLAIN:
            self._plain(line)
            return
        self._lines += 1
        self._torn += line.torn
        if (process := self._processes.of(line)) is None:
            self._lost += 1
        elif line.level == WARN:
            self._warn(process, line.message, line.time_ns)
        elif line.level == INFO:
            self._info(process, line)

    def _plain(self, line: Line) -> None:
        self._version(line.message)
        if (said := _TORCH.search(line.message)) is None:
            return
        rank = int(said["rank"]) if said["rank"] else line.rank
        process = self._processes.of(line._replace(rank=rank, label=line.label if rank is None else f"rank {rank}"))
        if process is not None:
            self._warn(process, said["text"].strip(), line.time_ns)

    def _version(self, text: str) -> None:
        if (found := patterns.VERSION.search(text)) and len(self._nccl) < MOST_SETTINGS:
            self._nccl[found[1]] = None
            self._is_rccl |= found[0].startswith("R")
        for name, pattern in patterns.RUNTIMES:
            if (found := pattern.search(text)) and len(self._runtime) < MOST_SETTINGS:
                self._runtime[f"{name} {found[1].rstrip('.')}"] = None

    def _warn(self, process: int, text: str, time_ns: int | None) -> None:
        key = (process, code_of(text), _NOT_ALIKE.sub("#", text))
        if key not in self._warned:
            if len(self._warned) >= MOST_WARNINGS:
                self._lost += 1
                return
            self._warned[key] = _Warned(process, text, key[1], time_ns)
        self._warned[key].count += 1

    def _info(self, process: int, line: Line) -> None:
        for fragment, pattern, take in _KINDS:
            if fragment in line.message and (match := pattern.search(line.message)):
                take(self, process, line, match)
                return
        for fragment, pattern, keep in _KEPT:
            if fragment in line.message and (match := pattern.search(line.message)):
                self._room -= len(line.message)
                if self._room >= 0:
                    keep(self, process, line, match)
                else:
                    self._lost += 1
                return
        self._version(line.message)
        for topic, pattern in patterns.NOTES:
            if match := pattern.search(line.message):
                if len(self._notes) < MOST_NOTES:
                    self._notes[process, topic, match[1]] = None
                return

    def _call(self, process: int, line: Line, match: re.Match[str]) -> None:
        function, count, datatype, _, root, pointer, ranks = match.groups()
        index = self._communicator(process, int(pointer, 16))
        if index is None:
            return
        self._called[process] = index
        communicator = self._communicators[index]
        if communicator.ranks is None and ranks and int(ranks):
            communicator = self._communicators[index] = replace(communicator, ranks=int(ranks))
        name = patterns.DATATYPES[int(datatype)] if 0 <= int(datatype) < len(patterns.DATATYPES) else ""
        call = Call(communicator=index, function=function, count=int(count), datatype=name, root=int(root))
        row = self._calls.add(call, line.time_ns)
        if row is not None and function not in P2P and not communicator.rank:  # other ranks never tell
            self._calls.wait(process, row, call, communicator.ranks)

    def _tuned(self, process: int, line: Line, match: re.Match[str]) -> None:
        function, how, told_bytes, text = match.groups()
        if tuned := patterns.tuned_of(function, how, int(told_bytes), text):
            self._calls.choose(process, tuned)

    def _init(self, process: int, line: Line, match: re.Match[str]) -> None:
        pointer, rank, ranks, device, _, parent, child, color, key, hash_, state = match.groups()
        begins = state == "START"
        known = self._live.get((process, int(pointer, 16)))
        if begins or (known is not None and self._communicators[known].is_complete):
            self._live.pop((process, int(pointer, 16)), None)  # memory is used again for another one
        index = self._communicator(process, int(pointer, 16))
        if index is None:
            return
        self._communicators[index] = replace(
            self._communicators[index],
            rank=int(rank),
            ranks=int(ranks) or None,
            device=int(device),
            id=int(hash_, 16) if hash_ else None,
            parent=self._live.get((process, int(parent, 16))) if parent else None,
            child=int(child) if child else None,
            color=int(color) if color else None,
            key=int(key) if key else None,
            is_complete=not begins,
        )
        self._draw(process, line.tid, index, begins=begins)

    def _draw(self, process: int, tid: int | None, index: int, *, begins: bool) -> None:
        """Before NCCL 2.18 lines of a communicator come before the one that names it."""
        draft = Draft() if begins else self._drafts.get(index) or self._drawn.get((process, tid)) or Draft()
        if draft.is_closed and index not in self._drafts:
            draft = Draft()
        self._drafts[index] = draft
        draft.is_closed = not begins
        self._drawn[process, tid] = self._drawn[process, None] = draft

    def _nodes(self, process: int, line: Line, match: re.Match[str]) -> None:
        pointer, rank, ranks, nodes = match.groups()
        if (index := self._communicator(process, int(pointer, 16))) is not None:
            known = self._communicators[index]
            told = replace(known, rank=int(rank), ranks=int(ranks) or None, nodes=int(nodes) or None)
            self._communicators[index] = told

    def _gone(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._live.pop((process, int(match[1], 16)), None)

    def _communicator(self, process: int, pointer: int) -> int | None:
        """The living communicator at an address; None where there are too many already."""
        if (process, pointer) not in self._live:
            if len(self._communicators) >= MOST_COMMUNICATORS:
                self._lost += 1
                return None
            self._live[process, pointer] = len(self._communicators)
            self._communicators.append(LogCommunicator(process=process, pointer=pointer))
        return self._live[process, pointer]

    def _setting(self, process: int, line: Line, match: re.Match[str]) -> None:
        settings = self._processes.all[process].settings
        if match[1] in settings or len(settings) < MOST_SETTINGS:
            settings[match[1]] = match[2].rstrip(".") if match[2].rstrip(".").lstrip("-").isdecimal() else match[2]

    def _draft(self, process: int, tid: int | None, *, begins: bool = False) -> Draft:
        """What a line of the topology is about: the communicator that its thread is creating; after that the one that
        was called last, since NCCL connects at the first call; else the last one that was created."""
        draft = self._drawn.get((process, tid)) or self._drawn.get((process, None))
        if draft is None or (begins and draft.is_closed):
            draft = self._drawn[process, tid] = self._drawn[process, None] = Draft()
        if draft.is_closed and process in self._called:
            return self._drafts.setdefault(self._called[process], Draft())
        return draft

    def _ring(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid, begins=True).ring(match)

    def _trees(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid, begins=True).trees(match)

    def _pattern(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid, begins=True).pattern(match)

    def _channels(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid).channels(match)

    def _link(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid).link(match)

    def _rings_up(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid).rings_up(match)

    def _timings(self, process: int, line: Line, match: re.Match[str]) -> None:
        self._draft(process, line.tid).timings(match)


_KINDS = (
    (": opCount ", patterns.CALL, LogReader._call),
    (" Bytes -> ", patterns.TUNING, LogReader._tuned),
    ("Init ", patterns.INIT, LogReader._init),
    (" nNodes ", patterns.NODES, LogReader._nodes),
    ("COMPLETE", patterns.GONE, LogReader._gone),
)
"""What a line has to hold, what it then looks like, who takes it: the most frequent first."""

_KEPT = (
    (" via ", patterns.LINK, LogReader._link),
    (" set ", patterns.SETTING, LogReader._setting),
    ("Channel ", patterns.RING, LogReader._ring),
    ("Trees ", patterns.TREES, LogReader._trees),
    (" coll channels", patterns.CHANNELS, LogReader._channels),
    ("Pattern ", patterns.PATTERN, LogReader._pattern),
    ("Connected all rings", patterns.RINGS_UP, LogReader._rings_up),
    ("Init timings", patterns.TIMINGS, LogReader._timings),
)
"""The same of lines that are kept whole, as long as there is room."""


def _warning(warned: _Warned, process: int) -> LogWarning:
    return LogWarning(
        process=process,
        text=warned.text,
        code=warned.code,
        count=warned.count,
        time_ns=warned.time_ns,
    )


def _process(told: ProcessBeingRead, rank: int | None) -> LogProcess:
    return LogProcess(host=told.host, pid=told.pid, label=told.label, rank=rank, settings=dict(told.settings))
