"""What py-spy saw as calls: slices of time that nest, a track a thread, and the time spent in each stack.

py-spy says when a frame first appeared in a sample and when it first was gone. Its outermost frame is the thread.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from shardprof.recording.beside.stacks.py_spy import Samples

_THREAD = re.compile(r"thread \((\d+|0x[0-9A-Fa-f]+)\)(?:: (.*))?", re.DOTALL)
_LIBRARY = re.compile(r".*/(?:site-packages|dist-packages|lib/python3\.\d+)/")
_NOT_FOLDABLE = re.compile(r"[;\x00-\x1f\x7f]")
_TID_BITS = 31
MAIN_THREAD = "MainThread"
OWN_THREADS = "shardprof-"


@dataclass(frozen=True, slots=True)
class Call:
    """A frame that stayed in a thread's stack from `begin_us` to `end_us`, at line `line`."""

    tid: int
    depth: int
    name: str
    file: str
    line: int
    begin_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Calls:
    """All calls, outer ones before inner ones; the threads' names; microseconds by stack (`thread;outer;inner`)."""

    calls: list[Call]
    threads: dict[int, str]
    stack_us: Counter[str]


@dataclass(slots=True)
class _Frame:
    event: dict[str, Any]
    path: str
    inner_us: int = 0


@dataclass(slots=True)
class _Thread:
    tid: int = 0
    changed_us: int = 0
    is_numbered: bool = False
    is_ours: bool = False
    open: list[_Frame] = field(default_factory=list)


def read_calls(seen: Samples, pid: int) -> Calls:
    """The calls in what py-spy saw of process `pid`, without our own threads. Times stay py-spy's."""
    found = Calls([], {}, Counter())
    threads: defaultdict[int, _Thread] = defaultdict(_Thread)
    end_us = max((event["ts"] for event in seen.events), default=0)
    for event in seen.events:
        thread = threads[event["tid"]]
        if event["ph"] == "B":
            _begin(thread, event, pid, found)
        elif thread.open:
            _end(thread, event["ts"] if event["ts"] < end_us else _last_us(thread, seen, end_us), found)
        if event["ts"] < end_us:
            thread.changed_us = event["ts"]
    found.calls.sort(key=lambda call: (call.begin_us, call.depth))
    return found


def _last_us(thread: _Thread, seen: Samples, end_us: int) -> int:
    """Where a thread's last stack ended: py-spy says at the end, but the thread may have ended long before."""
    if not thread.is_numbered or thread.tid in seen.living:
        return end_us
    return min(end_us, max(thread.changed_us, seen.seen_us.get(thread.tid, 0)))


def _begin(thread: _Thread, event: dict[str, Any], pid: int, found: Calls) -> None:
    if thread.open:
        thread.open.append(_Frame(event, f"{thread.open[-1].path};{_label(event)}"))
        return
    thread.tid, thread.is_numbered, name = _thread(event["name"], pid)
    thread.is_ours = name.startswith(OWN_THREADS)
    if not thread.is_ours:
        found.threads[thread.tid] = name
    thread.open.append(_Frame(event, _NOT_FOLDABLE.sub(" ", name)))


def _end(thread: _Thread, end_us: int, found: Calls) -> None:
    frame = thread.open.pop()
    if thread.is_ours:
        return
    begin_us = min(frame.event["ts"], end_us)
    duration_us = end_us - begin_us
    if duration_us > frame.inner_us:
        found.stack_us[frame.path] += duration_us - frame.inner_us
    if thread.open:
        thread.open[-1].inner_us += duration_us
        place = frame.event["args"]
        depth = len(thread.open)
        call = Call(thread.tid, depth, frame.event["name"], place["filename"], place["line"] or 0, begin_us, end_us)
        found.calls.append(call)


def _thread(text: str, pid: int) -> tuple[int, bool, str]:
    """A thread's number, whether that is the operating system's (py-spy can tell from Python 3.11 on), and its name."""
    match = _THREAD.fullmatch(text)
    number, name = match.groups() if match else ("0x0", text)
    is_numbered = number.isdecimal()
    tid = int(number) if is_numbered else int(number, 16) % (1 << _TID_BITS)
    if name == MAIN_THREAD or tid == pid:
        return pid, is_numbered, name or MAIN_THREAD
    return tid, is_numbered, name or f"thread {number}"


def _label(event: dict[str, Any]) -> str:
    """A frame of a flame graph: the file without what differs between machines."""
    path = event["args"]["filename"]
    short = _LIBRARY.sub("", path) if _LIBRARY.match(path) else path.rpartition("/")[2]
    return _NOT_FOLDABLE.sub(" ", f"{event['name']} ({short}:{event['args']['line']})")
