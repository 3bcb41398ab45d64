"""Arrows between the slices of one collective on all ranks, in the order in which the ranks came."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.trace.across.joined import Joined
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.timeline.overview import Window
from shardprof.trace.timeline.writer import TimelineWriter

Place = tuple[str, int, int]
"""The track ("pid/tid") of an event, its begin and its end since the epoch, on its rank's own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """One rank's part in a collective of several ranks: the number of that, how long it waited for the last of them,
    which rank that was, how long it took from then on."""

    collective: int
    waited_ns: int
    last_rank: int
    transfer_ns: int

    def arguments(self) -> dict[str, int | str]:
        """What its slice says of it."""
        return {
            "waited for others (us)": f"{self.waited_ns / 1e3:.3f}",
            "last rank": self.last_rank,
            "transfer after that (us)": f"{self.transfer_ns / 1e3:.3f}",
        }


def meetings_of(joined: Joined, windows: Sequence[Window]) -> dict[int, dict[Place, Met]]:
    """By rank, the slices that are its part in a collective of several ranks. `windows` are those whose calls `joined`
    was made of, in its order."""
    tracks = [track for window in windows for track in window.call_tracks]
    met, calls = joined.meetings, joined.calls
    row_of = np.full(int(joined.matched.instance.max(initial=UNKNOWN)) + 2, UNKNOWN)
    row_of[joined.matched.instance[met.call]] = np.arange(len(met))
    found: defaultdict[int, dict[Place, Met]] = defaultdict(dict)
    for i in np.flatnonzero(row_of[joined.matched.instance] != UNKNOWN).tolist():
        row = int(row_of[joined.matched.instance[i]])
        key = tracks[i], int(calls.begin_ns[i]), int(calls.end_ns[i])
        found[int(calls.rank[i])][key] = Met(
            collective=row,
            waited_ns=int(joined.wait_ns[i]),
            last_rank=int(met.last_rank[row]),
            transfer_ns=int(met.transfer_ns[row]),
        )
    return found


class Flows:
    """The arrows, whose ends become known as slices are written."""

    def __init__(self) -> None:
        self._ends = array("q")

    def add(self, collective: int, time_ns: int, process: int, thread: int) -> None:
        """A slice of a collective begins there; the time is the timeline's own."""
        self._ends.extend((collective, time_ns, process, thread))

    def write(self, writer: TimelineWriter) -> None:
        """The arrows of the collectives that have several slices. An arrow's ends stand in the order of time, also in
        the file, as viewers want them."""
        if not self._ends:
            return
        ends = np.frombuffer(self._ends, dtype=np.int64).reshape(-1, 4)
        ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
        same = ends[1:, 0] == ends[:-1, 0]
        has_before, has_after = np.append(False, same), np.append(same, False)
        for (collective, *place), before, after in zip(ends.tolist(), has_before, has_after, strict=True):
            if before or after:
                writer.flow("t" if before and after else "f" if before else "s", collective, *place)
