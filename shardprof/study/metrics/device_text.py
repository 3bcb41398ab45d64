"""What only the text of a GPU's trace tells: how much each copy moved, and the occupancy that Kineto estimates.

The compiled reader keeps neither, so that one trace of a training on GPUs is read once more, as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np

from shardprof.engine import holding, merge
from shardprof.trace.device_names import copy_kind
from shardprof.trace.files import Place
from shardprof.trace.timeline.trace_text import Event, TraceText
from shardprof.trace.unpacked import text_blocks

_OCCUPANCY = "est. achieved occupancy %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A kernel or a copy to the device. `occupancy` (0 to 1) is a kernel's, `size_bytes` and `is_pinned` a copy's."""

    begin_ns: int
    duration_ns: int
    occupancy: float | None = None
    size_bytes: int | None = None
    is_copy: bool = False
    is_pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWork:
    """What began in so many steps, which took `wall_ns` together."""

    steps: int
    wall_ns: int
    work: tuple[Work, ...]

    @property
    def copies(self) -> list[Work]:
        """Those from the host to the device."""
        return [work for work in self.work if work.is_copy]


def device_work(files: Sequence[Place], spans_ns: Sequence[tuple[int, int]]) -> DeviceWork:
    """What the traces of a rank hold in steps, given by begin and end since the epoch.

    Raises ShardprofError or OSError where they cannot be read.
    """
    windows = merge(np.array(spans_ns, dtype=np.int64).reshape(-1, 2))
    work = [piece for file in files for piece in _work(file)]
    begins_ns = np.array([piece.begin_ns for piece in work], dtype=np.int64)
    inside = (holding(windows, begins_ns) >= 0).tolist()
    return DeviceWork(
        steps=len(spans_ns),
        wall_ns=sum(end_ns - begin_ns for begin_ns, end_ns in spans_ns),
        work=tuple(piece for piece, is_inside in zip(work, inside, strict=True) if is_inside),
    )


def _work(file: Place) -> list[Work]:
    text = TraceText(text_blocks(file), str(file))
    found = [piece for events in text.events() for event in events for piece in _piece(event)]
    base_ns = text.base_ns()
    return [replace(piece, begin_ns=base_ns + piece.begin_ns) for piece in found]


def _piece(event: Event) -> Iterator[Work]:
    """The work that an event is, if it is any; its begin is relative to the trace's base."""
    category = str(_value(event.cat)).lower()
    if event.ph != "X" or category not in ("kernel", "gpu_memcpy", "memcpy"):
        return
    begin_ns, duration_ns = _nanoseconds(event.ts), _nanoseconds(event.dur)
    if begin_ns is None or duration_ns is None:
        return
    args = _value(event.args)
    told = args if isinstance(args, dict) else {}
    name = str(_value(event.name))
    if category == "kernel":
        percent = _number(told.get(_OCCUPANCY))
        occupancy = None if percent is None else percent / 100
        yield Work(begin_ns=begin_ns, duration_ns=duration_ns, occupancy=occupancy)
    elif copy_kind(name) == "HtoD":
        size = _number(told.get("bytes"))
        yield Work(
            begin_ns=begin_ns,
            duration_ns=duration_ns,
            size_bytes=None if size is None else int(size),
            is_copy=True,
            is_pinned="pinned" in name.lower(),
        )


def _value(raw: Any) -> Any:
    """What the text of a member says; None for what is none."""
    with suppress(msgspec.MsgspecError, RecursionError, TypeError):
        return msgspec.json.decode(raw)
    return None


def _number(told: Any) -> float | None:
    return told if isinstance(told, int | float) and not isinstance(told, bool) else None


def _nanoseconds(raw: Any) -> int | None:
    """Of decimal microseconds; digits beyond the nanosecond are dropped."""
    with suppress(InvalidOperation, ValueError, OverflowError, TypeError):
        return int(Decimal(bytes(raw).decode()) * 1000)
    return None
