"""What a study says, as every output renders it and as JSON holds it.

Times are nanoseconds, sizes bytes. None is "not measured" or "cannot be told here"; what is missing says why. A *cell*
is one combination of a study's matrix; its `name` is its strategy and knobs, its `situation` all the rest: cells of one
situation do the same work on the same machines and are compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

SCHEMA = "shardprof.study/1"

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
UNKNOWN = "cannot be told here"

REPEATS = "repeats"
COUNTED = "counted"
STEPS = "steps"
NOTHING = ""

AGREES = 1e-4
"""The relative difference up to which losses in fp32 agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and where it lies with 95 % confidence, None where that cannot be told.

    `basis` is what the interval rests on: `count` "repeats" (Student's t over their logarithms) or the "steps" of
    `count` repeats (bootstrap: what differs from run to run is not in it), or that it is "counted" alike in each; ""
    where there is none.
    """

    value: float
    low: float | None
    high: float | None
    basis: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What cells have in common that are compared. `batch_size` is samples a rank and micro-batch, `ranks` are of the
    whole job; `fabric_bytes_per_s` is the network between nodes, one way, None where nothing was told of it."""

    model: str
    precision: str
    checkpointing: bool
    batch_size: int
    accumulation: int
    nodes: int
    ranks: int
    fabric_bytes_per_s: float | None

    def __lt__(self, other: Situation) -> bool:
        """By model, precision, ..., in the order of the fields; an untold fabric comes first."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[object, ...]:
        return (*astuple(self)[:-1], self.fabric_bytes_per_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanStep:
    """The mean captured step of all ranks and repeats: `parts_ns` by class of the partition sum to `wall_ns`.
    `overlapped_share` is the part of communication under compute, `reduced_overlap` that of gradient reductions (all-
    reduce and reduce-scatter); None where there is none."""

    wall_ns: float
    parts_ns: Mapping[str, float]
    overlapped_share: float | None
    reduced_overlap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFigures:
    """A cell: `finished` of its `trials` did. From step `diverged_at` on a loss was no number: such a cell has no step
    time, and is compared with nothing. `memory_bytes` is what `memory_is` says, of any rank the most;
    `states_bytes` the model states of a rank by part; `wire_bytes` what a rank sends a step, `per_expected` and
    `per_theory` its ratio to what the implementation is known to send and to what the strategy needs; `network_bytes`
    what of it a node sends to others, of a single node the same as `wire_bytes`. `data_wait_ns`
    and `exposed_ns` are of a step. `figures` holds the median over repeats of every metric by "name" or "name part",
    with its unit; `missing` says why one is not there."""

    cell_id: str
    name: str
    strategy: str
    knobs: str
    situation: Situation
    trials: int
    finished: int
    diverged_at: int | None
    step_ns: Estimate | None
    samples_per_s: Estimate | None
    memory_bytes: Estimate | None
    memory_is: str
    states_bytes: Mapping[str, int]
    mean_step: MeanStep | None
    wire_bytes: Estimate | None
    network_bytes: Estimate | None
    per_expected: float | None
    per_theory: float | None
    exposed_ns: float | None
    data_wait_ns: float | None
    figures: Mapping[str, tuple[float, str]]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A cell in a ranking. Cells that no interval tells from the first one of their `place` share it, `tied`.
    `to_best` is the ratio of its step time to the best one's, None for the best itself."""

    name: str
    place: int
    tied: bool
    step_ns: Estimate
    to_best: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The cells of a situation by step time, the shortest first."""

    situation: Situation
    ranked: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Two cells of which each is faster at one of two fabrics, by more than chance. `near_bytes_per_s` is where the
    ratio of their step times is 1, by interpolation of logarithms. `situation` is that of the slower fabric;
    `slow_ratio` and `fast_ratio` are the step time of `on_slow` over that of `on_fast`, at each."""

    situation: Situation
    on_slow: str
    on_fast: str
    slow_bytes_per_s: float
    fast_bytes_per_s: float
    near_bytes_per_s: float
    slow_ratio: Estimate
    fast_ratio: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What more ranks give. `kind` is "weak" (the same batch of each rank) or "strong" (the same global batch);
    `efficiency` is the ideal step time over the measured one, against `base_ranks` ranks of the same cell, each with
    `base_batch_size` samples. `lost` is what of the step is lost to each group of classes, in shares of the captured
    step; they sum to 1 - `captured_efficiency`, and are negative where time is won."""

    name: str
    situation: Situation
    kind: str
    base_ranks: int
    base_nodes: int
    base_batch_size: int
    efficiency: Estimate
    captured_efficiency: float | None
    lost: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value of a training after so many samples and seconds since its first step."""

    samples: int
    seconds: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """How a cell learned: `loss` is the mean of the last losses, `loss_at_equal` that of the last ones up to
    `equal_samples`, which every cell has seen. From step `diverged_at` on a loss was no number. `seconds_to_target` and
    `samples_to_target` are those of the first evaluation that reached the `target`; None where `why_not` says so. The
    curves are of the first repeat, at some of its steps."""

    name: str
    situation: Situation
    loss: float | None
    loss_at_equal: float | None
    equal_samples: int
    diverged_at: int | None
    accuracy: float | None
    target: float | None
    seconds_to_target: float | None
    samples_to_target: float | None
    why_not: str
    losses: tuple[Point, ...]
    accuracies: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the losses of a cell in fp32 are from those of `against` at the same samples: the largest relative
    difference in the first `steps` steps that both have, and `at_step`. `parts_at` is the first of `all_steps` in which
    they are further apart than AGREES; None where they never are."""

    name: str
    against: str
    situation: Situation
    largest: float
    at_step: int
    steps: int
    parts_at: int | None
    all_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Trials of a cell that ended alike: which repeats, how, and why."""

    name: str
    situation: Situation
    repeats: tuple[int, ...]
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """How a cell's trials ended, in all situations together. `errors_per_hour` is the mean of what was measured."""

    name: str
    trials: int
    finished: int
    errors_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unequal:
    """Something in which cells of one situation are not alike, beside strategy and knobs; it holds for every pair of
    `pairs` in `situations` situations. `severity` is "not comparable" or "mind"."""

    severity: str
    subject: str
    message: str
    pairs: int
    situations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """What was checked: `equal` in all pairs of a situation, with the value, `unequal`, and `not_told`. `changed` are
    facts of the machines that are not the same in all trials, beside those."""

    pairs: int
    changed: tuple[str, ...]
    equal: tuple[str, ...]
    not_told: tuple[str, ...]
    unequal: tuple[Unequal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A finding of the slower cell's reports that the faster one has not, or has cheaper: by `cost_ns` a step."""

    rule: str
    title: str
    cost_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why one cell's step is longer than another's. `ratio` is of step times, slower over faster; `is_told` whether its
    interval leaves 1 out. `parts_ns` is the difference of the mean captured steps by class, the largest first; they sum
    to `captured_ns`. `against` is "best" or "next"."""

    situation: Situation
    faster: str
    slower: str
    against: str
    ratio: Estimate
    is_told: bool
    captured_ns: float | None
    parts_ns: Mapping[str, float]
    findings: tuple[Explanation, ...]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A part of a hypothesis that data can decide: how many of its `cases`, cells or pairs of them, speak for and
    against it, and the figures of each. What is neither cannot be told, by chance or for lack of a figure."""

    text: str
    verdict: str
    speak_for: int
    speak_against: int
    cases: int
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """Something said of FSDP and DeepSpeed. It holds where all claims do, and does not where one does not, unless the
    study lacks what telling it `needs`."""

    text: str
    verdict: str
    claims: tuple[Claim, ...]
    needs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a configuration is `best_for`, in which situations, from which others no interval tells it there, and the
    figures that support it. In these situations no other one beats it in everything."""

    name: str
    best_for: str
    situations: tuple[Situation, ...]
    tied_with: tuple[str, ...]
    figures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was studied. `trials` counts them by status, `left` those that are planned and have not run yet. `shared`
    are the axes of one value, `varied` those of several, with their values as text; `repeats` the least and the most
    finished trials of a cell. `environment` are the facts that are the same in all trials. `answer` is what to
    remember, `sureness` what its intervals rest on."""

    studies: tuple[str, ...]
    trials: Mapping[str, int]
    left: int
    cells: int
    repeats: tuple[int, int]
    on_gpu: bool | None
    shared: Mapping[str, str]
    varied: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str]
    hours: float
    answer: tuple[str, ...]
    sureness: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """Everything that `shardprof bench report` says."""

    schema: str = SCHEMA
    head: Head
    cells: tuple[CellFigures, ...]
    rankings: tuple[Ranking, ...]
    crossings: tuple[Crossing, ...]
    scaling: tuple[Scaling, ...]
    learning: tuple[Learning, ...]
    agreement: tuple[Agreement, ...]
    failures: tuple[Failure, ...]
    robustness: tuple[Robustness, ...]
    fairness: Fairness
    causes: tuple[Cause, ...]
    hypotheses: tuple[Hypothesis, ...]
    decisions: tuple[Decision, ...]
