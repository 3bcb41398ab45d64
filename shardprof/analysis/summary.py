"""What a report says first: how long a step takes, what its time goes to, on which rank and in which communication.

Step times are medians over the steps that hold work; of an even number the lower one, so that the median is a step
that was measured and can be looked at. What the time went to is summed over the same steps instead, because parts
have to add up to the whole and medians of parts do not; such figures are written per step, as the mean.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median, median_low

from shardprof.analysis.result import Rank, Result, Step
from shardprof.trace.classes import CLASSES, COMM_KINDS

GROUPS: Mapping[str, tuple[str, ...]] = {
    "compute": ("compute",),
    "communication": COMM_KINDS,
    "copies": ("memcpy", "memset"),
    "data_loading": ("data_loading",),
    "launch_bound": ("launch_bound",),
    "idle": ("idle",),
}
"""The classes as a bar shows them; communication is the exposed part of it, the one outside compute."""

_MANY_RANKS = 16
"""Above this number of ranks some stand out and the rest is not listed."""
_MOST_OUTLIERS = 8
_OUTLIER_SHARE = 0.05
"""A rank is an outlier where it spends this much of a step otherwise than the median rank, and does so unusually."""
_OUTLIER_DEVIATIONS = 5


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
class StepOfRank:
    """One step and the rank it was measured on."""

    rank: int
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """One kind of communication, per step and rank. `payload_bytes` is None where a size is not known.

    `comm_ns` is the time it runs, `overlapped_ns` the part of that under compute. `exposed_ns` is what a step waits for
    it; what it waits for two kinds at once counts for the first. `groups` names its process groups.
    """

    kind: str
    calls: float
    payload_bytes: float | None
    comm_ns: float
    exposed_ns: float
    overlapped_ns: float
    groups: tuple[str, ...]

    @property
    def overlapped_share(self) -> float | None:
        """The share of it that runs under compute; None where it took no time."""
        return self.overlapped_ns / self.comm_ns if self.comm_ns else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The steps that hold work, of all ranks: their number and the sums of what their time went to.

    `median` and `slowest` are steps that were measured; `kinds` is in the order of the classes, `comm_ns` all
    communication and `overlap_ns` the part of it under compute.
    """

    count: int
    median: StepOfRank
    slowest: StepOfRank
    groups_ns: Mapping[str, int]
    kinds: tuple[KindSummary, ...]
    comm_ns: int
    overlap_ns: int

    def share(self, group: str) -> float:
        """The share of all steps' time that went to `group`."""
        return _ratio(self.groups_ns[group], sum(self.groups_ns.values()))

    @property
    def slower_ns(self) -> dict[str, int]:
        """What the slowest step spends more than the median one, by class; negative where it spends less."""
        slowest, typical = self.slowest.step.partition_ns, self.median.step.partition_ns
        return {name: slowest.get(name, 0) - typical.get(name, 0) for name in CLASSES}

    @property
    def overlapped_share(self) -> float:
        """The share of communication that runs under compute."""
        return _ratio(self.overlap_ns, self.comm_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A Result in the figures that matter first. `steps` is None where no captured step holds work.

    `window` is what a share is a share of: "step", or "trace" where no steps were found. `on_gpu` tells whether
    compute is kernels or operators on a CPU. `empty_steps` are the numbers of the steps left out of all figures.
    """

    window: str
    on_gpu: bool
    ranks: tuple[RankSummary, ...]
    steps: Steps | None
    empty_steps: tuple[int, ...]


def summarize(result: Result) -> Summary:
    """The figures of a Result; needs nothing but it."""
    return Summary(
        window="trace" if result.step_source == "whole trace" else "step",
        on_gpu=any(rank.device == "cuda" for rank in result.ranks),
        ranks=_with_remarks([_rank(rank) for rank in result.ranks]),
        steps=_steps(result),
        empty_steps=tuple(sorted({step.step for rank in result.ranks for step in rank.steps if step.empty})),
    )


def _rank(rank: Rank) -> RankSummary:
    steps = [step for step in rank.steps if not step.empty]
    return RankSummary(
        rank=rank.rank,
        host=rank.host,
        steps=len(steps),
        step_ns=median_low(step.wall_ns for step in steps) if steps else None,
        groups_ns=_groups_ns(steps),
    )


def _steps(result: Result) -> Steps | None:
    held = [StepOfRank(rank=rank.rank, step=s) for rank in result.ranks for s in rank.steps if not s.empty]
    if not held:
        return None
    steps = [entry.step for entry in held]
    middle_ns = median_low(step.wall_ns for step in steps)
    return Steps(
        count=len(steps),
        median=next(entry for entry in held if entry.step.wall_ns == middle_ns),
        slowest=max(held, key=lambda entry: entry.step.wall_ns),
        groups_ns=_groups_ns(steps),
        kinds=_kinds(steps, _groups_by_kind(result)),
        comm_ns=sum(step.comm_ns for step in steps),
        overlap_ns=sum(step.overlap_ns for step in steps),
    )


def _groups_ns(steps: Sequence[Step]) -> dict[str, int]:
    by_class = {name: sum(step.partition_ns.get(name, 0) for step in steps) for name in CLASSES}
    return {group: sum(by_class[name] for name in classes) for group, classes in GROUPS.items()}


def _kinds(steps: Sequence[Step], groups: Mapping[str, tuple[str, ...]]) -> tuple[KindSummary, ...]:
    rows = []
    for kind in COMM_KINDS:
        calls = sum(step.comm_calls.get(kind, 0) for step in steps)
        comm_ns = sum(step.comm_kind_ns.get(kind, 0) for step in steps)
        if not (calls or comm_ns):
            continue
        sizes = [step.comm_bytes[kind] for step in steps if kind in step.comm_bytes]
        known = [size for size in sizes if size is not None]
        rows.append(
            KindSummary(
                kind=kind,
                calls=calls / len(steps),
                payload_bytes=sum(known) / len(steps) if known and len(known) == len(sizes) else None,
                comm_ns=comm_ns / len(steps),
                exposed_ns=sum(step.partition_ns.get(kind, 0) for step in steps) / len(steps),
                overlapped_ns=sum(step.overlapped_ns.get(kind, 0) for step in steps) / len(steps),
                groups=groups.get(kind, ()),
            )
        )
    return tuple(rows)


def _groups_by_kind(result: Result) -> dict[str, tuple[str, ...]]:
    """Who communicates: the groups' descriptions, the same one of several groups with their number."""
    named: dict[str, Counter[tuple[str, int | None]]] = defaultdict(Counter)
    for row in result.collectives:
        if row.ranks is not None or row.group_size is not None:
            named[row.kind][row.group, row.group_size] += 1
    return {kind: tuple(_group_words(*key, n) for key, n in found.items()) for kind, found in named.items()}


def _group_words(description: str, group_size: int | None, groups: int) -> str:
    if group_size is None or description == f"{group_size} ranks":
        return description
    ranks = f"{group_size:,} ranks"
    return f"{description} ({ranks})" if groups == 1 else f"{description} ({groups} x {ranks})"


def _with_remarks(ranks: Sequence[RankSummary]) -> tuple[RankSummary, ...]:
    """The ranks that stand out among many say so; few ranks need no such help."""
    timed = [(rank.step_ns, rank) for rank in ranks if rank.step_ns is not None]
    if len(ranks) <= _MANY_RANKS or not timed:
        return tuple(ranks)
    by_time = [rank.rank for _, rank in sorted(timed, key=lambda pair: pair[0])]
    remarks = dict.fromkeys(_outliers([rank for _, rank in timed]), "outlier")
    remarks |= {by_time[(len(by_time) - 1) // 2]: "median", by_time[0]: "fastest", by_time[-1]: "slowest"}
    return tuple(replace(rank, remark=remarks.get(rank.rank, "")) for rank in ranks)


def _outliers(ranks: Sequence[RankSummary]) -> list[int]:
    """The ranks that are furthest from the median rank in how they spend a step or in how long it is."""
    typical_ns = median(rank.step_ns or 0 for rank in ranks)
    distance: dict[int, float] = defaultdict(float)
    for values in [[_ratio(rank.step_ns or 0, typical_ns) for rank in ranks]] + [
        [rank.share(group) for rank in ranks] for group in GROUPS
    ]:
        for rank, off in zip(ranks, _unusual(values), strict=True):
            distance[rank.rank] = max(distance[rank.rank], off)
    furthest = sorted((rank for rank, off in distance.items() if off), key=lambda rank: -distance[rank])
    return furthest[:_MOST_OUTLIERS]


def _unusual(values: Sequence[float]) -> list[float]:
    """Each value's distance from the median, 0 for those that are as near as most."""
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    limit = max(_OUTLIER_SHARE, _OUTLIER_DEVIATIONS * median(distances))
    return [distance if distance > limit else 0.0 for distance in distances]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def recorded(ranks: Iterable[Rank]) -> list[Rank]:
    """The ranks whose every step was recorded, captured or not; of many the slowest, the median and the fastest."""
    known = [(rank.always_on.wall_ns, rank) for rank in ranks if rank.always_on]
    if len(known) <= _MANY_RANKS:
        return [rank for _, rank in known]
    ordered = [rank for _, rank in sorted(known, key=lambda pair: -pair[0])]
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
