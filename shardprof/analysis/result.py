"""The Result of a report: what every output renders. Its fields are the JSON contract; see docs/definitions.md.

Times are nanoseconds, sizes bytes. None is "not measured", with a line in `quality` that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.quality import Quality

SCHEMA = "shardprof.report/1"


def sum_if_all_known(sizes: Sequence[int | None]) -> int | None:
    """The sum; None where a part of it was not measured, since the rest would pass for the whole."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


GROUPS: Mapping[str, tuple[str, ...]] = {
    "compute": ("compute",),
    "communication": COMM_KINDS,
    "copies": ("memcpy", "memset"),
    "data_loading": ("data_loading",),
    "launch_bound": ("launch_bound",),
    "idle": ("idle",),
}
"""The classes of the partition as a summary takes them together; communication is what of it is exposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A rank's whole trace: first activity to the last one's end, unions of activities, and how they overlap.

    `busy` is any activity, `idle` the rest of the span; `overlap` is communication under compute, `exposed_comm` the
    communication outside it. `gpu_events` counts GPU activities.
    """

    span_ns: int
    busy_ns: int
    idle_ns: int
    compute_ns: int
    comm_ns: int
    exposed_comm_ns: int
    overlap_ns: int
    memcpy_ns: int
    memset_ns: int
    gpu_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one rank. `partition_ns` sums to `wall_ns`; the other times are unions clipped to the step.

    `comm_kind_ns` is each kind's own time, `overlapped_ns` the part of it under compute; kinds may run at once.

    `comm_bytes` (payload) and `comm_calls` count the collectives launched in the step, by kind. `empty` marks a
    step that holds no work; such steps are kept out of medians.
    `wait_ns` is how long its communication waited for the last rank to come, `late_ns` how long others waited for this
    one; None without other ranks. `counters` are those of the rank's process and, with
    "gpu_" before the name, of its GPU: the mean over the step, of a total its increase; only of recorded runs.
    """

    step: int
    begin_ns: int
    wall_ns: int
    busy_ns: int
    compute_ns: int
    comm_ns: int
    overlap_ns: int
    partition_ns: dict[str, int]
    comm_kind_ns: dict[str, int]
    overlapped_ns: dict[str, int]
    comm_bytes: dict[str, int | None]
    comm_calls: dict[str, int]
    empty: bool = False
    wait_ns: int | None = None
    late_ns: int | None = None
    counters: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysOn:
    """What was recorded of every step: medians over the `usual_steps` of all `steps` of time on the main thread.

    The slowest is one of the usual steps, None where these are too few for one to stand out.
    """

    steps: int
    usual_steps: int
    wall_ns: int
    slowest_step: int | None
    slowest_wall_ns: int | None
    data_ns: int | None
    forward_ns: int | None
    backward_ns: int | None
    optimizer_ns: int | None

    @property
    def phases_ns(self) -> dict[str, int]:
        """The phases that were seen, by name."""
        phases = {
            "data": self.data_ns,
            "forward": self.forward_ns,
            "backward": self.backward_ns,
            "optimizer": self.optimizer_ns,
        }
        return {phase: time_ns for phase, time_ns in phases.items() if time_ns is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank. `device` is "cuda" or "cpu", None (with `total`) where nothing ran in its trace. `role` is its place in
    the job ("DP 0, PP 3") where the trace tells it."""

    rank: int
    host: str | None
    device: str | None
    total: Total | None
    steps: tuple[Step, ...]
    role: str | None = None
    always_on: AlwaysOn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSize:
    """The calls of one kind in one group that carry `payload_bytes` each (None: the trace does not tell).

    `median_ns` is what a call takes on a rank, its wait for others included. The others are medians over these calls,
    as of Collective: None where no other rank's trace is there.
    """

    payload_bytes: int | None
    calls: int
    median_ns: int
    transfer_ns: int | None = None
    wait_ns: int | None = None
    algbw_gbps: float | None = None
    busbw_gbps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """All calls of one kind in one group, over the captured steps, each collective counted once.

    `wire_bytes` is what each rank of the group sends for them; for gloo's reduce-scatter that is an all-reduce's.
    `wait_ns` is what a rank waited for the last one to come, in the mean over ranks, `transfer_ns` the time after that;
    the bandwidths are payload and its nccl-tests multiple by `transfer_ns`. None where no other rank's trace is there.
    `nodes` is how many nodes the group spans; `dimension` "shard" or "replicate" where its place in the mesh tells.
    `sizes` has the same calls by what each carries, the smallest first; `sizes_left_out` is how many others, which took
    less time, are not listed.
    """

    kind: str
    group: str
    ranks: tuple[int, ...] | None
    group_size: int | None
    calls: int
    payload_bytes: int | None
    wire_bytes: int | None
    transfer_ns: int | None = None
    wait_ns: int | None = None
    algbw_gbps: float | None = None
    busbw_gbps: float | None = None
    nodes: int | None = None
    dimension: str | None = None
    sizes: tuple[CallSize, ...] = ()
    sizes_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclCalls:
    """All calls of the training, captured or not, of one NCCL `function` in one group, of one size and by one way.

    `calls` are those of the rank that made most. `median_ns` and `p99_ns` are what a call takes on a rank, the wait for
    others included; `transfer_ns` is the median over calls of the shortest time on any rank, and the bandwidths are
    payload and its nccl-tests multiple by that. None where NCCL told no times.
    """

    kind: str
    function: str
    group: str
    group_size: int | None
    payload_bytes: int | None
    algorithm: str
    protocol: str
    channels: int | None
    transport: str | None
    calls: int
    median_ns: int | None
    p99_ns: int | None
    transfer_ns: int | None
    algbw_gbps: float | None
    busbw_gbps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A call that had begun on these ranks and was not over when they were last heard of. Sends and receives have no
    `sequence`."""

    function: str
    group: str
    sequence: int | None
    payload_bytes: int | None
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nccl:
    """What NCCL itself told, through its "plugin" or its "log" (`source`). `lost` counts what it told and no record
    holds whole; `timer_residual_ns` is what remains between GPU timers and hosts' clocks, on the worst rank."""

    source: str
    calls: tuple[NcclCalls, ...]
    unfinished: tuple[Unfinished, ...]
    lost: dict[str, int]
    timer_residual_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node: its ranks, and the bytes its network links carried while steps were captured, by interface."""

    name: str
    ranks: tuple[int, ...]
    link_tx_bytes: dict[str, int] | None
    link_rx_bytes: dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What shows that something is so: a sentence and, where it is one place, the rank, the step and the time range on
    the rank's own clock in which the timeline shows it."""

    message: str
    rank: int | None
    step: int | None
    begin_ns: int | None
    end_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """A rank that keeps the others waiting in `steps` of `of_steps`, by `cost_ns_per_step` more than ranks usually do.

    `cause` is "compute" (slower at the same work), "imbalance" (more work), "launch" (its CPU), "data_loading", "link"
    or "unknown".
    """

    rank: int
    cause: str
    cost_ns_per_step: int
    steps: int
    of_steps: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to change: which `rule` of docs/definitions.md found it, how much it matters ("high", "medium", "low"),
    what shows it, what it costs a step at most (None: memory rather than time), what to do, by which `knob`, at which
    price, and what would disprove it."""

    rule: str
    severity: str
    title: str
    evidence: tuple[Evidence, ...]
    cost_ns_per_step: int | None
    advice: str
    knob: str
    side_effect: str
    disproof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that the counters of a host show and that slows or endangers its `ranks`: a stable `code`, a sentence.

    `steps` are the first and the last step that it met, None where it met none.
    """

    code: str
    message: str
    host: str
    ranks: tuple[int, ...]
    begin_ns: int
    end_ns: int
    steps: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """How something went over a recorded run: `values` of `name` at `times_ns` (Unix time, ascending).

    `subject` is whose: "rank 0" (its process), "gpu 0", "node", or a network interface; `rank` who computes there.
    `name` is a counter's, of a total with "_per_s" its increase a second since the sample before; `step_ns` how long
    each recorded step was; or what torch's allocator held at a step's end. Of long series the least and the most of
    each stretch of time are kept.
    """

    host: str
    subject: str
    rank: int | None
    name: str
    times_ns: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was read. `kind` is "run" (recorded by shardprof) or "traces" (of other tools). `environment` is what of the
    job's environment decides how it communicates and runs."""

    paths: tuple[str, ...]
    kind: str
    command: str | None
    framework: str | None
    settings: dict[str, Any]
    device_name: str | None
    world_size: int | None
    versions: dict[str, str]
    hosts: tuple[Host, ...]
    exit_code: int | None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSummary:
    """One rank's steps that hold work: how many, the median of their times, and the sums of what it went to.

    `remark` is "slowest", "median", "fastest" or "outlier" where the ranks are too many to be listed, else "".
    `step_ns` is None where the rank has no such steps.
    """

    rank: int
    host: str | None
    steps: int
    step_ns: int | None
    groups_ns: Mapping[str, int]
    remark: str = ""

    def share(self, group: str) -> float:
        """The share of the rank's time that went to `group`."""
        return _ratio(self.groups_ns[group], sum(self.groups_ns.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """One kind of communication, summed over the steps. `payload_bytes` is None where a size is not known.

    `comm_ns` is the time it runs, `overlapped_ns` the part of that under compute. `exposed_ns` is what steps wait for
    it; what they wait for two kinds at once counts for the first.
    """

    kind: str
    calls: int
    payload_bytes: int | None
    comm_ns: int
    exposed_ns: int
    overlapped_ns: int

    @property
    def overlapped_share(self) -> float | None:
        """The share of it that runs under compute; None where it took no time."""
        return self.overlapped_ns / self.comm_ns if self.comm_ns else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOfRank:
    """A step that was measured: its number, its rank, its time."""

    rank: int
    step: int
    wall_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSummary:
    """The steps that hold work, of all ranks: their number and the sums of what their time went to.

    `slower_ns` is what the slowest step spends more than the median one, by class, negative where it spends less.
    `kinds` is in the order of the classes, `comm_ns` all communication and `overlap_ns` the part of it under compute.
    """

    count: int
    median: StepOfRank
    slowest: StepOfRank
    slower_ns: Mapping[str, int]
    groups_ns: Mapping[str, int]
    kinds: tuple[KindSummary, ...]
    comm_ns: int
    overlap_ns: int

    def share(self, group: str) -> float:
        """The share of all steps' time that went to `group`."""
        return _ratio(self.groups_ns[group], sum(self.groups_ns.values()))

    @property
    def overlapped_share(self) -> float:
        """The share of communication that runs under compute."""
        return _ratio(self.overlap_ns, self.comm_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What bounds the run: the group of classes at which most can be won, and its share of the time.

    `others` are the shares of the other groups that are large too, the largest first.
    """

    by: str
    share: float
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures that matter first. `steps` is None where no captured step holds work.

    `window` is what a share is a share of: "step", or "trace" where no steps were found. `on_gpu` tells whether
    compute is kernels or operators on a CPU; `only_cpu_side`, whether those only launch the work of GPUs of which
    nothing was recorded. `bound` is None where the figures do not tell it; without captured steps it rests on `phases`,
    the shares of a step by the records of every step. `empty_steps` are the steps left out of all figures.
    """

    window: str
    on_gpu: bool
    only_cpu_side: bool
    bound: Bound | None
    steps: StepsSummary | None
    ranks: tuple[RankSummary, ...]
    phases: Mapping[str, float]
    empty_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What a rank sends in a step of one `kind`, or in "total": what the strategy needs, what its implementation is
    known to send as it is set, what was measured; and the ratios of these, None where a size is unknown or 0."""

    kind: str
    theory_bytes: int | None
    expected_bytes: int | None
    measured_bytes: int | None
    measured_per_theory: float | None
    measured_per_expected: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """The memory that a `part` of the model states takes on a rank: by formula, and what the first rank held when its
    first step had ended (None: it is freed by then, or not known)."""

    part: str
    expected_bytes: int | None
    measured_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What a strategy needs to move and to hold, against what the run moved and held; `reasons` explain a difference.

    A step has `micro_batches`, and reduces gradients after `reductions` of them.
    """

    micro_batches: int | None
    reductions: int | None
    kinds: tuple[Volume, ...]
    total: Volume
    reasons: tuple[str, ...]
    model_states: tuple[ModelState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a report says. `step_source` tells how steps were found, `step_confidence` from 0 to 1 how sure
    it is that these are the steps (None where there was nothing to find steps in).

    `notices` is what the counters of recorded runs show, `series` how they went, `volumes` None where their settings
    tell none, `nccl` None where NCCL was not asked.

    `summary` is None until the other parts are there to be summarised; `clock` and `stragglers` are None where there is
    one rank only, `findings` until an analysis fills them.
    """

    schema: str = SCHEMA
    source: Source
    step_source: str
    step_confidence: float | None = None
    summary: Summary | None = None
    ranks: tuple[Rank, ...]
    collectives: tuple[Collective, ...]
    clock: tuple[RankClock, ...] | None = None
    stragglers: tuple[Straggler, ...] | None = None
    findings: tuple[Finding, ...] | None = None
    notices: tuple[Notice, ...] = ()
    volumes: Volumes | None = None
    nccl: Nccl | None = None
    series: tuple[Series, ...] = ()
    quality: tuple[Quality, ...] = field(default=())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
