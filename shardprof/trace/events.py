"""The events of one rank as columns, with the few questions that everything asks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardprof.engine import Int64s, Intervals, UInt32s

Mask = npt.NDArray[np.bool_]

_FEW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """One row an event with a duration, in the order of the file. Times are nanoseconds on the rank's own clock.

    `name`, `category` and `thread` are indices into the tuples of the same names in the plural; `correlation`,
    `external_id` and `stream` are `engine.ABSENT` where an event has none. `shape` tells events of one name apart by
    how much they have to do: a hash of a kernel's grid or of an operator's input sizes, 0 where these are not told. The
    rows `detail_row`, in ascending order, are of communication: what they carry is `details` at the indices `detail`,
    and which of its group's calls each is `detail_sequence`.
    """

    begin_ns: Int64s
    end_ns: Int64s
    name: UInt32s
    category: UInt32s
    thread: UInt32s
    correlation: Int64s
    external_id: Int64s
    stream: Int64s
    shape: UInt32s
    names: tuple[str, ...]
    categories: tuple[str, ...]
    threads: tuple[str, ...]
    detail_row: UInt32s
    detail: UInt32s
    detail_sequence: Int64s
    details: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.begin_ns)

    def in_categories(self, *wanted: str) -> Mask:
        """Which rows are of one of these categories."""
        return _taken([category in wanted for category in self.categories], self.category)

    def named(self, matches: Callable[[str], object]) -> Mask:
        """Which rows have a name that `matches` accepts; it is asked once a distinct name."""
        return _taken([bool(matches(name)) for name in self.names], self.name)

    def intervals(self, rows: Mask | Int64s) -> Intervals:
        """Begin and end of some rows, shape (rows, 2), as they are: not merged."""
        return np.stack((self.begin_ns[rows], self.end_ns[rows]), axis=1)

    def name_of(self, row: int) -> str:
        """The name of one event."""
        return self.names[int(self.name[row])]

    def arguments(self, row: int) -> dict[str, Any]:
        """What an event carries; nothing if it is not of communication."""
        at = int(np.searchsorted(self.detail_row, row))
        told = at < len(self.detail_row) and int(self.detail_row[at]) == row
        return self.details[int(self.detail[at])] if told else {}


def _taken(accepted: Sequence[bool], index: UInt32s) -> Mask:
    """What is accepted, for each row's index."""
    wanted = [i for i, is_accepted in enumerate(accepted) if is_accepted]
    mask: Mask
    if len(wanted) > _FEW:
        mask = np.array(accepted, dtype=np.bool_).take(index)
        return mask
    mask = np.zeros(len(index), dtype=np.bool_)
    for i in wanted:  # some comparisons with one number cost less than one look into a table
        mask |= index == i
    return mask
