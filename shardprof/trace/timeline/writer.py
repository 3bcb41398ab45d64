"""The timeline as a file: one Chrome trace whose processes and threads have numbers of their own and stand in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec

from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.schema import TIMELINE_MARK
from shardprof.trace.timeline.capture import Captured

_LANES = 100
"""Threads are this far apart in the order of their process, for what stands between them."""
_THREADS = 1000
"""The same for shelves of threads."""
_FIRST = -1
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Slice:
    """Something that the timeline adds to what was captured; queries find it by its category."""

    category: str
    name: str
    begin_ns: int
    end_ns: int
    args: Mapping[str, Any] = field(default_factory=dict)


class TimelineWriter:
    """Writes events into `file`, times relative to `base_ns` since the epoch.

    Processes are shown in the order in which they were made, threads in that of their shelves, then likewise. Their
    numbers are unique together, since a viewer takes a thread with its process' number for the main one. `told` is a
    member that stands before the events.
    """

    def __init__(self, file: BinaryIO, base_ns: int, told: Any = None) -> None:
        self._file = file
        self._base_ns = base_ns
        self._numbers = 0
        self._clocks: dict[int, RankClock | None] = {}
        self._orders: dict[int, int] = {}
        self._names: list[tuple[tuple[int, int], bytes]] = []
        self._separator = b"\n"
        self.events = 0
        file.write(b'{"displayTimeUnit":"ns","baseTimeNanoseconds":%d,' % base_ns)
        file.write(b'"%b":%b,"traceEvents":[' % (TIMELINE_MARK.encode(), _encode(told)))

    def finish(self) -> None:
        """There will be no further event."""
        self.name_tracks()
        self._file.write(b"\n]}\n")

    def process(self, name: str, clock: RankClock | None = None) -> int:
        """A new process; what is then written of it is on `clock`, None for the reference's."""
        process = self._number()
        self._clocks[process] = clock
        self._describe(process, process, "process_name", _FIRST, {"name": name})
        self._describe(process, process, "process_sort_index", _FIRST, {"sort_index": process})
        return process

    def thread(self, process: int, name: str, shelf: int) -> int:
        """A new thread."""
        thread = self._number()
        self._orders[thread] = (shelf * _THREADS + len(self._orders) % _THREADS) * _LANES
        self._name_thread(process, thread, name, self._orders[thread])
        return thread

    def name_tracks(self) -> None:
        """Say what was made until now, in order, before any event of it: viewers show threads in the order in which
        they hear of them."""
        for _, event in sorted(self._names):
            self._write(event)
        self._names.clear()

    def lane(self, process: int, thread: int, name: str, lane: int) -> int:
        """A further track right behind a thread, for slices that overlap its own."""
        track = self._number()
        self._name_thread(process, track, name, self._orders[thread] + lane)
        self.name_tracks()
        return track

    def slice(self, process: int, thread: int, made: Slice) -> None:
        """Something that lasts."""
        body = _encode({"ph": "X", "cat": made.category, "name": made.name, "args": made.args})
        self._put(process, thread, made.begin_ns, made.end_ns - made.begin_ns, body)

    def instant(
        self, process: int, thread: int, category: str, name: str, time_ns: int, args: Mapping[str, Any]
    ) -> None:
        """Something that happens."""
        body = _encode({"ph": "i", "s": "t", "cat": category, "name": name, "args": args})
        self._put(process, thread, time_ns, None, body)

    def counter(self, process: int, name: str, unit: str, time_ns: int, value: float) -> None:
        """A value from now on, of a track of the process."""
        self._put(process, process, time_ns, None, _encode({"ph": "C", "name": name, "args": {unit: value}}))

    def captured(self, process: int, thread: int, event: Captured, more: Mapping[str, Any]) -> None:
        """An event of a trace, with `more` arguments."""
        body = _with_arguments(event.body, more) if more else event.body
        self._put(process, thread, event.begin_ns, event.duration_ns, body)

    def flow(self, phase: str, flow: int, own_time_ns: int, process: int, thread: int) -> None:
        """An end of an arrow ("s", "t" or "f"): at the slice that begins there."""
        body = _encode({"ph": phase, "bp": "e", "name": "collective", "cat": "collective", "id": flow})
        self._put_at(process, thread, own_time_ns, body)

    def own_time(self, process: int, time_ns: int) -> int:
        """A time on the clock of a process, as the timeline has it."""
        clock = self._clocks[process]
        return max((time_ns if clock is None else clock.on_reference(time_ns)) - self._base_ns, 0)

    def _put(self, process: int, thread: int, begin_ns: int, duration_ns: int | None, body: bytes) -> None:
        own_begin_ns = self.own_time(process, begin_ns)
        if duration_ns is not None:
            lasted_ns = self.own_time(process, begin_ns + duration_ns) - own_begin_ns
            body = body[:-1] + b',"dur":%b}' % _microseconds(lasted_ns)
        self._put_at(process, thread, own_begin_ns, body)

    def _put_at(self, process: int, thread: int, own_time_ns: int, body: bytes) -> None:
        place = b',"pid":%d,"tid":%d,"ts":%b}' % (process, thread, _microseconds(own_time_ns))
        self._write(body[:-1] + place)
        self.events += 1

    def _name_thread(self, process: int, thread: int, name: str, order: int) -> None:
        self._describe(process, thread, "thread_name", order, {"name": name})
        self._describe(process, thread, "thread_sort_index", order, {"sort_index": order})

    def _describe(self, process: int, thread: int, what: str, order: int, args: dict[str, Any]) -> None:
        event = {"ph": "M", "name": what, "pid": process, "tid": thread, "ts": 0, "args": args}
        self._names.append(((process, order), _encode(event)))

    def _write(self, event: bytes) -> None:
        self._file.write(self._separator + event)
        self._separator = b",\n"

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _with_arguments(body: bytes, more: Mapping[str, Any]) -> bytes:
    event = msgspec.json.decode(body)
    return _encode({**event, "args": {**event.get("args", {}), **more}})


def _microseconds(time_ns: int) -> bytes:
    """As decimal text: a floating-point number would lose nanoseconds."""
    sign = b"-" if time_ns < 0 else b""
    return b"%b%d.%03d" % (sign, abs(time_ns) // 1000, abs(time_ns) % 1000)
