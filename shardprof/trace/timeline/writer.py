"""The timeline as a file: one Chrome trace whose processes and threads have numbers of their own and stand in order."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

from shardprof.trace.timeline.capture import Captured

_LANES = 1000
"""Threads are this far apart in the order of their process, for what stands between them."""
_encode = msgspec.json.Encoder().encode


class TimelineWriter:
    """Writes events into `file`, times relative to `base_ns` since the epoch.

    Processes and threads are shown in the order in which they were made. Their numbers are unique together, since a
    viewer takes a thread with its process' number for the main one.
    """

    def __init__(self, file: BinaryIO, base_ns: int) -> None:
        self._file = file
        self._base_ns = base_ns
        self._numbers = 0
        self._separator = b"\n"
        self.events = 0
        file.write(b'{"displayTimeUnit":"ns","baseTimeNanoseconds":%d,"traceEvents":[' % base_ns)

    def finish(self) -> None:
        """There will be no further event."""
        self._file.write(b"\n]}\n")

    def process(self, name: str) -> int:
        """A new process."""
        process = self._number()
        self._describe(process, process, "process_name", {"name": name})
        self._describe(process, process, "process_sort_index", {"sort_index": process})
        return process

    def thread(self, process: int, name: str) -> int:
        """A new thread."""
        thread = self._number()
        self._name_thread(process, thread, name, thread * _LANES)
        return thread

    def lane(self, process: int, thread: int, name: str, lane: int) -> int:
        """A further track right behind a thread, for slices that overlap its own."""
        track = self._number()
        self._name_thread(process, track, name, thread * _LANES + lane)
        return track

    def slice(self, process: int, thread: int, name: str, begin_ns: int, end_ns: int, args: dict[str, Any]) -> None:
        """Something that lasts."""
        body = _encode({"ph": "X", "name": name, "args": args})
        self._put(process, thread, begin_ns, end_ns - begin_ns, body)

    def instant(self, process: int, thread: int, name: str, time_ns: int, args: dict[str, Any]) -> None:
        """Something that happens."""
        self._put(process, thread, time_ns, None, _encode({"ph": "i", "s": "t", "name": name, "args": args}))

    def counter(self, process: int, name: str, unit: str, time_ns: int, value: float) -> None:
        """A value from now on, of a track of the process."""
        self._put(process, process, time_ns, None, _encode({"ph": "C", "name": name, "args": {unit: value}}))

    def captured(self, process: int, thread: int, event: Captured) -> None:
        """An event of a trace."""
        self._put(process, thread, event.begin_ns, event.duration_ns, event.body)

    def _put(self, process: int, thread: int, begin_ns: int, duration_ns: int | None, body: bytes) -> None:
        place = b',"pid":%d,"tid":%d,"ts":%b' % (process, thread, _microseconds(begin_ns - self._base_ns))
        if duration_ns is not None:
            place += b',"dur":%b' % _microseconds(duration_ns)
        self._write(body[:-1] + place + b"}")
        self.events += 1

    def _name_thread(self, process: int, thread: int, name: str, order: int) -> None:
        self._describe(process, thread, "thread_name", {"name": name})
        self._describe(process, thread, "thread_sort_index", {"sort_index": order})

    def _describe(self, process: int, thread: int, what: str, args: dict[str, Any]) -> None:
        self._write(_encode({"ph": "M", "name": what, "pid": process, "tid": thread, "ts": 0, "args": args}))

    def _write(self, event: bytes) -> None:
        self._file.write(self._separator + event)
        self._separator = b",\n"

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _microseconds(time_ns: int) -> bytes:
    """As decimal text: a floating-point number would lose nanoseconds."""
    sign = b"-" if time_ns < 0 else b""
    return b"%b%d.%03d" % (sign, abs(time_ns) // 1000, abs(time_ns) % 1000)
