"""Jobs with planted clocks: what each rank's trace would hold of the same collectives, seen by a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shardprof.trace.across.calls import RankWindow
from shardprof.trace.across.gaps import DOING, Gaps
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives, ProcessGroup
from shardprof.trace.steps import StepWindows

MS = 1_000_000
SECOND = 1_000 * MS
BEGIN_NS = 1_795_000_000 * SECOND
ALL_GATHER = COMM_KINDS.index("all_gather")


def group(name: str, ranks: Sequence[int]) -> ProcessGroup:
    """A process group of these ranks."""
    return ProcessGroup(name=name, description=f"mesh_{name}", size=len(ranks), ranks=tuple(ranks))


@dataclass
class Job:
    """`steps` steps of about 100 ms, in each of which every group has `layers` collectives, one after the other.

    Every rank comes to each at a time of its own, up to 3 ms apart, and all leave it within `jitter_ns` (a standard
    deviation). Clocks are off by `offset_ns` at BEGIN_NS and by `drift_ppm` from then on; sizes are `size_bytes`, by
    layer.
    """

    ranks: int
    steps: int = 5
    layers: int = 8
    jitter_ns: float = 0.0
    offset_ns: Sequence[int] = ()
    drift_ppm: Sequence[float] = ()
    groups: Sequence[ProcessGroup] = ()
    machines: Sequence[str | None] = ()
    size_bytes: Sequence[int] = ()
    is_numbered: bool = False
    seed: int = 0
    evenly: bool = False
    truth: list[np.ndarray] = field(default_factory=list)

    def windows(self) -> list[RankWindow]:
        """A window a rank; `truth` then has, for each of its rows, which collective it is."""
        random = np.random.default_rng(self.seed)
        groups = list(self.groups) or [group("0", range(self.ranks))]
        sizes = np.array(list(self.size_bytes) or [1 << 20] * self.layers)
        events = []  # step, number in group, layer, group, begin on each rank, end on each rank
        true_ns = 0.0
        step_begins = []
        for step in range(self.steps):
            step_begins.append(true_ns)
            for layer in range(self.layers):
                arrive = true_ns + random.uniform(0, 3 * MS, (len(groups), self.ranks))
                end = arrive.max(axis=1) + (1 * MS if self.evenly else random.uniform(0.5 * MS, 2 * MS))
                if self.evenly:
                    end[:] = true_ns + 4 * MS
                left = end[:, None] + random.normal(0, self.jitter_ns, (len(groups), self.ranks))
                for g in range(len(groups)):
                    events.append((step, step * self.layers + layer, layer, g, arrive[g], left[g]))
                true_ns = float(end.max()) + (8 * MS if self.evenly else random.uniform(5 * MS, 11 * MS))
        step_begins.append(true_ns)
        offsets = list(self.offset_ns) or [0] * self.ranks
        drifts = list(self.drift_ppm) or [0.0] * self.ranks
        self.truth = []
        made = []
        for rank in range(self.ranks):
            own = [event for event in events if rank in (groups[event[3]].ranks or ())]
            rows = sorted(own, key=lambda event: float(event[4][rank]))

            def seen(times: Sequence[float], rank: int = rank) -> np.ndarray:
                true = np.array(times)
                return np.rint(true + drifts[rank] * 1e-6 * true + offsets[rank]).astype(np.int64)

            begin = seen([event[4][rank] for event in rows])
            bounds = seen(step_begins)
            windows = np.stack((bounds[:-1], bounds[1:]), axis=1)
            count = len(rows)
            constant = np.full(count, UNKNOWN, dtype=np.int64)
            numbers = np.array([event[1] for event in rows], dtype=np.int64)
            self.truth.append(np.array([event[1] * len(groups) + event[3] for event in rows]))
            made.append(
                RankWindow(
                    rank=rank,
                    clock=self.machines[rank] if self.machines else None,
                    base_ns=BEGIN_NS,
                    steps=StepWindows(
                        source="ProfilerStep",
                        numbers=tuple(range(10, 10 + self.steps)),
                        windows=windows,
                        confidence=1.0,
                    ),
                    gaps=Gaps(
                        doing_ns=np.zeros((count, len(DOING)), dtype=np.int64),
                        work=np.zeros(count, dtype=np.int64),
                        exposed_ns=np.zeros(count, dtype=np.int64),
                    ),
                    collectives=Collectives(
                        kind=np.full(count, ALL_GATHER, dtype=np.int64),
                        launched_ns=begin - 10_000,
                        begin_ns=begin,
                        end_ns=seen([event[5][rank] for event in rows]),
                        payload_bytes=sizes[[event[2] for event in rows]].astype(np.int64),
                        wire_bytes=constant,
                        group=np.array([event[3] for event in rows], dtype=np.int64),
                        sequence=numbers + 1000 if self.is_numbered else constant,
                        source=constant,
                        destination=constant,
                        row=constant,
                        groups=tuple(groups),
                    ),
                )
            )
        return made
