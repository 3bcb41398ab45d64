"""The calls of a log while it is read, 16 bytes each: how NCCL ran one comes in a later line, without its number."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from typing import NamedTuple, TypeVar

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.nccl.log_record import Call, Calls, Choice, Tuned
from shardprof.trace.nccl.operations import datatype_bytes, payload_bytes

MOST_CALLS = 1 << 22
MOST_KINDS = 1 << 16
MOST_WAITING = 128
"""Of one process: more than a group has calls in practice."""

_Known = TypeVar("_Known", bound=Hashable)


class _Waiting(NamedTuple):
    """A call whose choice was not told yet: NCCL up to 2.23 counts all ranks' bytes, later ones those of a rank."""

    row: int
    function: str
    part_bytes: int
    whole_bytes: int


class CallsBeingRead:
    """Takes calls and choices in the order of the log. `lost` counts what was beyond the limits."""

    def __init__(self) -> None:
        self.lost = 0
        self._calls: dict[Call, int] = {}
        self._chosen: dict[Choice, int] = {Choice(): 0}
        self._kinds, self._choices, self._times_ns = array("i"), array("i"), array("q")
        self._waiting: defaultdict[int, deque[_Waiting]] = defaultdict(lambda: deque(maxlen=MOST_WAITING))
        self._tuned: Counter[Tuned] = Counter()

    def add(self, call: Call, time_ns: int | None) -> int | None:
        """A call was made; gives its row, None where there is no room."""
        kind = _index(self._calls, call)
        if kind is None or len(self._kinds) >= MOST_CALLS:
            self.lost += 1
            return None
        self._kinds.append(kind)
        self._choices.append(0)
        self._times_ns.append(UNKNOWN if time_ns is None else time_ns)
        return len(self._kinds) - 1

    def wait(self, process: int, row: int, call: Call, ranks: int | None) -> None:
        """A later line of the process will tell how that call was run."""
        part = call.count * (datatype_bytes(call.datatype) or 0)
        whole = payload_bytes(call.function, call.count, call.datatype, ranks)
        self._waiting[process].append(_Waiting(row, call.function, part, part if whole is None else whole))

    def choose(self, process: int, tuned: Tuned) -> None:
        """A line told a choice: that of the oldest call with such bytes (and function, where told), if there is one."""
        waiting = self._waiting[process]
        for at, call in enumerate(waiting):
            same = tuned.function in ("", call.function) and tuned.told_bytes in (call.part_bytes, call.whole_bytes)
            chosen = _index(self._chosen, tuned.choice) if same else None
            if chosen is not None:
                self._choices[call.row] = chosen
                del waiting[at]
                return
        if tuned in self._tuned or len(self._tuned) < MOST_KINDS:
            self._tuned[tuned] += 1
        else:
            self.lost += 1

    def done(self) -> Calls:
        """All of them."""
        return Calls(
            calls=tuple(self._calls),
            chosen=tuple(self._chosen),
            kinds=_column(self._kinds),
            choices=_column(self._choices),
            times_ns=_column(self._times_ns),
            tuned=dict(self._tuned),
        )


def _index(known: dict[_Known, int], value: _Known) -> int | None:
    if value in known or len(known) < MOST_KINDS:
        return known.setdefault(value, len(known))
    return None


def _column(values: array[int]) -> Int64s:
    return np.array(values, dtype=np.int64)
