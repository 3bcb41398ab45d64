"""What the ranks tell together: how their clocks relate, and what of their communication is waiting for one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardprof.analysis.result import Collective
from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls, RankWindow, calls_of
from shardprof.trace.across.clock import align, as_recorded, by_part, on_reference
from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.across.lateness import Lateness, lateness
from shardprof.trace.across.matching import Matched, match
from shardprof.trace.across.meetings import Meetings, meetings, waits
from shardprof.trace.classes import COMM_KINDS, wire_factor
from shardprof.trace.collectives import UNKNOWN, ProcessGroup, known_sum
from shardprof.trace.events import Mask
from shardprof.trace.quality import Quality
from shardprof.words import numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The ranks on one clock: their `calls`, which of them are one collective, when these met, who was late; and how
    long each call waited for the last rank."""

    clock: tuple[RankClock, ...]
    calls: Calls
    matched: Matched
    meetings: Meetings
    lateness: Lateness
    wait_ns: Int64s

    def with_times(self, row: Collective) -> Collective:
        """A row of the communication table with what its calls waited and how fast they moved."""
        of_row = self._of(row)
        if not of_row.any():
            return row
        transfer_ns = int(self.meetings.transfer_ns[of_row].sum())
        moved = known_sum(self.calls.payload_bytes[self.meetings.call[of_row]])
        bandwidth = moved / transfer_ns if moved and transfer_ns else None
        factor = wire_factor(row.kind, row.group_size) if row.group_size else None
        return replace(
            row,
            transfer_ns=transfer_ns,
            wait_ns=int(self.meetings.mean_wait_ns[of_row].sum()),
            algbw_gbps=bandwidth,
            busbw_gbps=bandwidth * factor if bandwidth is not None and factor is not None else None,
        )

    def doubts(self) -> list[Quality]:
        """What about the ranks' comparison in time is doubtful."""
        apart = [clock.rank for clock in self.clock if clock.offset_ns is None]
        doubts = []
        if apart:
            message = f"ranks whose clock nothing ties to that of rank {self.clock[0].rank}: {numbers(apart)}"
            doubts.append(Quality(code="clock_unknown", message=message, count=len(apart)))
        if self.matched.unmatched:
            message = "collectives that only one of the ranks that take part in them has in its trace"
            doubts.append(Quality(code="collectives_unmatched", message=message, count=self.matched.unmatched))
        if self.matched.unmatched_p2p:
            message = "sends and receives whose counterpart the traces do not tell"
            doubts.append(Quality(code="p2p_unmatched", message=message, count=self.matched.unmatched_p2p))
        return doubts

    def _of(self, row: Collective) -> Mask:
        """The meetings that a row of the communication table sums up."""
        wanted = [_is_of(group, row) for group in self.calls.groups]
        of_group = np.array([*wanted, False], dtype=np.bool_)[self.calls.group[self.meetings.call]]
        is_kind = self.calls.kind[self.meetings.call] == COMM_KINDS.index(row.kind)
        of_row: Mask = of_group & is_kind & (self.calls.step[self.meetings.call] != UNKNOWN)
        return of_row


def together(windows: Sequence[RankWindow], clock: str) -> Together:
    """The ranks of a run, on the clock of the collectives they share or, with `clock` "traces", as they are."""
    calls = calls_of(windows)
    matched = match(calls)
    clocks = align(calls, matched.instance)
    if clock == "traces":
        clocks = as_recorded(clocks, calls, matched.instance)
    parts = by_part(clocks, calls, matched.instance)
    begin_ns = on_reference(parts, calls.rank, calls.begin_ns)
    end_ns = on_reference(parts, calls.rank, calls.end_ns)
    met = meetings(calls, matched.instance, begin_ns, end_ns)
    return Together(
        clock=clocks,
        calls=calls,
        matched=matched,
        meetings=met,
        lateness=lateness(calls, matched.instance, begin_ns),
        wait_ns=waits(met, matched.instance, begin_ns),
    )


def _is_of(group: ProcessGroup, row: Collective) -> bool:
    return (group.description or "unknown", group.ranks) == (row.group, row.ranks)
