"""What `shardprof compare` says, as every output renders it; docs/compare.md has the figures.

Times are nanoseconds, sizes bytes, "a step" is a step of a rank: sums over all steps of all ranks that hold work, by
their number. None is "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass, field

SCHEMA = "shardprof.comparison/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PerStep:
    """A count or a size: its `total` over so many `steps`, and `per_step`, an integer where that is exact."""

    total: int
    steps: int
    per_step: float = field(init=False)

    def __post_init__(self) -> None:
        whole, rest = divmod(self.total, self.steps)
        object.__setattr__(self, "per_step", self.total / self.steps if rest else whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: its runs, by their paths; what was run in the first; the captured steps and how long they are.

    `rank_steps` counts steps of ranks. `median_ns` is their lower median, as in the report, `mean_ns` their mean to the
    nanosecond. `recorded_ns` is the median over ranks of the records' median: without the profiler.
    """

    paths: tuple[str, ...]
    framework: str | None
    strategy: str | None
    precision: str | None
    world_size: int | None
    device: str | None
    steps: tuple[int, ...]
    rank_steps: int
    median_ns: int | None
    interval_ns: Interval | None
    mean_ns: int | None
    recorded_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A class of the partition in the mean step of each side."""

    name: str
    a_ns: int
    b_ns: int
    change_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one kind of communication launches and moves in a step. Payload and wire as in the report."""

    calls: PerStep | None
    payload_bytes: PerStep | None
    wire_bytes: PerStep | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KindChange:
    """A kind of communication on both sides."""

    kind: str
    a: Traffic
    b: Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsChange:
    """The calls of one kind that carry `call_bytes` each."""

    kind: str
    call_bytes: int | None
    a_calls: PerStep
    b_calls: PerStep


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChange:
    """What runs under one name: a kernel or copy on GPUs, else an operator without those that it calls."""

    name: str
    a_calls: PerStep
    b_calls: PerStep
    a_ns: int
    b_ns: int
    change_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureChange:
    """A counter or an amount of memory that was measured on both sides."""

    name: str
    a: float
    b: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Caveat:
    """Something in which the sides are not alike. `severity` is "not comparable" or "mind"."""

    severity: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What only one side shows: `went` only A, `came` only B."""

    went: tuple[str, ...]
    came: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that a comparison of two runs, or groups of runs, says.

    `change` is the relative change of the median step, `change_interval` where it lies; `recorded_change` and its
    interval are those of `recorded_ns`. `waterfall` has the changes from A's mean step to B's, the largest first: they
    sum to it, to the nanosecond. `all_kinds` sums `kinds` up, None where there are none. `calls` and `kernels` are None
    where a side is a saved report, `findings` where they were not computed for a side. `kernels` are those whose time
    changed most: operators where not `on_gpu`.
    """

    schema: str = SCHEMA
    a: Side
    b: Side
    change: float | None
    change_interval: Interval | None
    recorded_change: float | None
    recorded_change_interval: Interval | None
    waterfall: tuple[Part, ...]
    kinds: tuple[KindChange, ...]
    all_kinds: KindChange | None
    calls: tuple[CallsChange, ...] | None
    kernels: tuple[KernelChange, ...] | None
    on_gpu: bool
    memory: tuple[FigureChange, ...]
    counters: tuple[FigureChange, ...]
    caveats: tuple[Caveat, ...]
    notices: Turnover
    findings: Turnover | None
    doubts: Turnover
