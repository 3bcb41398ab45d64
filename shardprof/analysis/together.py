"""What the ranks tell together: how their clocks relate, and what of their communication is waiting for one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from shardprof.analysis.result import CallSize, Collective
from shardprof.engine import Int64s
from shardprof.trace.across.calls import RankWindow
from shardprof.trace.across.joined import Joined, join
from shardprof.trace.across.lateness import Lateness, lateness
from shardprof.trace.classes import COMM_KINDS, wire_factor
from shardprof.trace.collectives import UNKNOWN, ProcessGroup, known_sum
from shardprof.trace.events import Mask
from shardprof.trace.quality import Quality
from shardprof.words import numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(Joined):
    """The ranks on one clock, and who of them was late."""

    lateness: Lateness

    def with_times(self, row: Collective) -> Collective:
        """A row of the communication table with what its calls waited and how fast they moved."""
        met = np.flatnonzero(self._of(row))
        if not len(met):
            return row
        transfer_ns = int(self.meetings.transfer_ns[met].sum())
        payload_bytes = self.calls.payload_bytes[self.meetings.call[met]]
        order = np.argsort(payload_bytes, kind="stable")
        by_size = met[order], payload_bytes[order]
        algbw_gbps, busbw_gbps = _bandwidths(row, known_sum(payload_bytes), transfer_ns)
        return replace(
            row,
            transfer_ns=transfer_ns,
            wait_ns=int(self.meetings.mean_wait_ns[met].sum()),
            algbw_gbps=algbw_gbps,
            busbw_gbps=busbw_gbps,
            sizes=tuple(self._size_with_times(row, size, *by_size) for size in row.sizes),
        )

    def _size_with_times(self, row: Collective, size: CallSize, met: Int64s, payload_bytes: Int64s) -> CallSize:
        """The same of the calls that carry as much, as medians; `met` are the row's meetings, ascending in bytes."""
        if size.payload_bytes is None:
            return size
        first, end = np.searchsorted(payload_bytes, [size.payload_bytes, size.payload_bytes + 1])
        alike = met[first:end]
        if not len(alike):
            return size
        transfer_ns = int(np.median(self.meetings.transfer_ns[alike]))
        algbw_gbps, busbw_gbps = _bandwidths(row, size.payload_bytes, transfer_ns)
        return replace(
            size,
            transfer_ns=transfer_ns,
            wait_ns=int(np.median(self.meetings.mean_wait_ns[alike])),
            algbw_gbps=algbw_gbps,
            busbw_gbps=busbw_gbps,
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
    joined = join(windows, clock)
    late = lateness(joined.calls, joined.matched.instance, joined.begin_ns)
    return Together(**{field.name: getattr(joined, field.name) for field in fields(joined)}, lateness=late)


def _bandwidths(row: Collective, payload_bytes: int | None, transfer_ns: int) -> tuple[float | None, float | None]:
    """Payload by time, and that times the factor of the row's kind and group."""
    if not payload_bytes or not transfer_ns:
        return None, None
    algbw_gbps = payload_bytes / transfer_ns
    return algbw_gbps, algbw_gbps * wire_factor(row.kind, row.group_size) if row.group_size else None


def _is_of(group: ProcessGroup, row: Collective) -> bool:
    return (group.description or "unknown", group.ranks) == (row.group, row.ranks)
