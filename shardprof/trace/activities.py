"""What a rank's processors did, in the words of `classes`: the same for work on GPUs and, with gloo, on CPUs."""

from __future__ import annotations

from dataclasses import dataclass

from shardprof.engine import NOTHING, Intervals, union
from shardprof.trace.classes import COMM_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """A process group as far as the trace tells: its torch name, what it is for, how many ranks, which."""

    name: str
    description: str
    size: int | None
    ranks: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One communication of one rank: when it was launched on the CPU, when it ran, what it carried.

    `payload_bytes` is the output of an all-gather, the input of a reduce-scatter, the buffer of the others;
    `wire_bytes` what the rank sends for it. None where the trace does not tell the size or the group.
    """

    kind: str
    launched_ns: int
    begin_ns: int
    end_ns: int
    payload_bytes: int | None
    wire_bytes: int | None
    group: ProcessGroup | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activities:
    """The time of each class, as merged sets that may overlap one another, and the collectives one by one.

    `device` is "cuda" or "cpu"; `device_events` counts GPU activities, `unlaunched_events`
    those whose launch the trace does not hold. `data_loading` is the main thread inside the
    DataLoader; `late_launches` is GPU idleness that ended with work launched after the idleness began.
    """

    device: str
    compute: Intervals
    comm: dict[str, Intervals]
    memcpy: Intervals
    memset: Intervals
    data_loading: Intervals
    late_launches: Intervals
    device_events: int
    unlaunched_events: int
    collectives: tuple[Collective, ...]

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
