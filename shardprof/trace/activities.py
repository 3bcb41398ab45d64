"""What a rank's processors did, in the words of `classes`: the same for work on GPUs and, with gloo, on CPUs."""

from __future__ import annotations

from dataclasses import dataclass

from shardprof.engine import NOTHING, Int64s, Intervals, union
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import Collectives


@dataclass(frozen=True, slots=True, kw_only=True)
class Activities:
    """The time of each class, as merged sets that may overlap one another, and the collectives one by one.

    `device` is "cuda" or "cpu"; `work_begin_ns` is when each piece of computing, a kernel or an operator, began, in
    order. `launches` is, for each GPU activity, the row of the event that launched it, -1 where
    the trace does not hold that. `data_loading` is the main thread inside the
    DataLoader; `late_launches` is GPU idleness that ended with work launched after the idleness began.
    """

    device: str
    compute: Intervals
    work_begin_ns: Int64s
    comm: dict[str, Intervals]
    memcpy: Intervals
    memset: Intervals
    data_loading: Intervals
    late_launches: Intervals
    launches: Int64s
    collectives: Collectives

    def all_comm(self) -> Intervals:
        """The time of communication of any kind, merged."""
        return union(*self.comm.values())

    def busy(self) -> Intervals:
        """The time of any activity, merged."""
        return union(self.compute, self.memcpy, self.memset, *self.comm.values())

    def by_precedence(self) -> list[Intervals]:
        """The sets of `classes.CLASSES` in that order, all but the last ("idle": what none covers)."""
        kinds = [self.comm.get(kind, NOTHING) for kind in COMM_KINDS]
        return [self.compute, *kinds, self.memcpy, self.memset, self.data_loading, self.late_launches]
