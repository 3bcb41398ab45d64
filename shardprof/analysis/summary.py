"""What a report says first: how long a step takes, what its time goes to and what bounds it, on which rank.

Step times are medians over the steps that hold work; of an even number the lower one, so that the median is a step
that was measured and can be looked at. What the time went to is summed over the same steps instead, because parts
have to add up to the whole and medians of parts do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median, median_low

from shardprof.analysis.result import (
    GROUPS,
    Bound,
    KindSummary,
    Rank,
    RankSummary,
    Result,
    Step,
    StepOfRank,
    StepsSummary,
    Summary,
)
from shardprof.trace.classes import CLASSES, COMM_KINDS

_BOUND_OF_COMPUTE = 0.4
"""A loss bounds a run where it takes at least this much of what compute takes: more can be won there than by faster
kernels. The largest such loss is named; without one, compute takes a third or more of the time and bounds the run."""
_DATA_BOUND_SHARE = 0.25
_LARGE_SHARE = 0.1

_MANY_RANKS = 16
"""Above this number of ranks some stand out and the rest is not listed."""
_MOST_OUTLIERS = 8
_OUTLIER_SHARE = 0.05
"""A rank is an outlier where it spends this much of a step otherwise than the median rank, and does so unusually."""
_OUTLIER_DEVIATIONS = 5


def summarize(result: Result) -> Summary:
    """The figures of a Result; needs nothing but the rest of it."""
    steps = _steps(result.ranks)
    phases = _phases(result.ranks)
    on_gpu = any(rank.device == "cuda" for rank in result.ranks)
    only_cpu_side = not on_gpu and any(doubt.code == "no_device_activities" for doubt in result.quality)
    return Summary(
        window="trace" if result.step_source == "whole trace" else "step",
        on_gpu=on_gpu,
        only_cpu_side=only_cpu_side,
        bound=None if only_cpu_side else _bound(steps) if steps else _bound_by_phases(phases),
        steps=steps,
        ranks=_with_remarks([_rank(rank) for rank in result.ranks]),
        phases=phases,
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


def _steps(ranks: Sequence[Rank]) -> StepsSummary | None:
    held = [(rank.rank, step) for rank in ranks for step in rank.steps if not step.empty]
    if not held:
        return None
    steps = [step for _, step in held]
    middle_ns = median_low(step.wall_ns for step in steps)
    typical_rank, typical = next(entry for entry in held if entry[1].wall_ns == middle_ns)
    slowest_rank, slowest = max(held, key=lambda entry: entry[1].wall_ns)
    return StepsSummary(
        count=len(steps),
        median=StepOfRank(rank=typical_rank, step=typical.step, wall_ns=typical.wall_ns),
        slowest=StepOfRank(rank=slowest_rank, step=slowest.step, wall_ns=slowest.wall_ns),
        slower_ns={name: slowest.partition_ns.get(name, 0) - typical.partition_ns.get(name, 0) for name in CLASSES},
        groups_ns=_groups_ns(steps),
        kinds=_kinds(steps),
        comm_ns=sum(step.comm_ns for step in steps),
        overlap_ns=sum(step.overlap_ns for step in steps),
    )


def _groups_ns(steps: Sequence[Step]) -> dict[str, int]:
    by_class = {name: sum(step.partition_ns.get(name, 0) for step in steps) for name in CLASSES}
    return {group: sum(by_class[name] for name in classes) for group, classes in GROUPS.items()}


def _kinds(steps: Sequence[Step]) -> tuple[KindSummary, ...]:
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
                calls=calls,
                payload_bytes=sum(known) if known and len(known) == len(sizes) else None,
                comm_ns=comm_ns,
                exposed_ns=sum(step.partition_ns.get(kind, 0) for step in steps),
                overlapped_ns=sum(step.overlapped_ns.get(kind, 0) for step in steps),
            )
        )
    return tuple(rows)


def _bound(steps: StepsSummary) -> Bound:
    ordered = sorted(GROUPS, key=lambda group: -steps.groups_ns[group])
    loss = next(group for group in ordered if group != "compute")
    by = loss if steps.share(loss) >= _BOUND_OF_COMPUTE * steps.share("compute") else "compute"
    others = {group: steps.share(group) for group in ordered if group != by and steps.share(group) >= _LARGE_SHARE}
    return Bound(by=by, share=steps.share(by), others=others)


def _phases(ranks: Sequence[Rank]) -> dict[str, float]:
    """Each phase's share of a step, of the medians over the ranks on which every step was recorded."""
    recorded = [rank.always_on for rank in ranks if rank.always_on]
    times_ns: dict[str, list[int]] = defaultdict(list)
    for record in recorded:
        for phase, time_ns in record.phases_ns.items():
            times_ns[phase].append(time_ns)
    step_ns = median(record.wall_ns for record in recorded) if recorded else 0
    return {phase: median(values) / step_ns for phase, values in times_ns.items()} if step_ns else {}


def _bound_by_phases(phases: Mapping[str, float]) -> Bound | None:
    """The only bound that phases tell; what the others wait for is not in the records."""
    data_share = phases.get("data", 0.0)
    return Bound(by="data_loading", share=data_share) if data_share >= _DATA_BOUND_SHARE else None


def _with_remarks(ranks: Sequence[RankSummary]) -> tuple[RankSummary, ...]:
    """The ranks that stand out among many say so; few ranks need no such help."""
    timed = [(rank.step_ns, rank) for rank in ranks if rank.step_ns is not None]
    if len(ranks) <= _MANY_RANKS or not timed:
        return tuple(ranks)
    by_time = [rank.rank for _, rank in sorted(timed, key=lambda pair: pair[0])]
    remarks = dict.fromkeys(_outliers(timed), "outlier")
    remarks |= {by_time[(len(by_time) - 1) // 2]: "median", by_time[0]: "fastest", by_time[-1]: "slowest"}
    return tuple(replace(rank, remark=remarks.get(rank.rank, "")) for rank in ranks)


def _outliers(timed: Sequence[tuple[int, RankSummary]]) -> list[int]:
    """The ranks that are furthest from the median rank in how they spend a step or in how long it is."""
    typical_ns = median(step_ns for step_ns, _ in timed) or 1
    distance: dict[int, float] = defaultdict(float)
    for values in [[step_ns / typical_ns for step_ns, _ in timed]] + [
        [rank.share(group) for _, rank in timed] for group in GROUPS
    ]:
        for (_, rank), off in zip(timed, _unusual(values), strict=True):
            distance[rank.rank] = max(distance[rank.rank], off)
    furthest = sorted((rank for rank, off in distance.items() if off), key=lambda rank: -distance[rank])
    return furthest[:_MOST_OUTLIERS]


def _unusual(values: Sequence[float]) -> list[float]:
    """Each value's distance from the median, 0 for those that are as near as most."""
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    limit = max(_OUTLIER_SHARE, _OUTLIER_DEVIATIONS * median(distances))
    return [distance if distance > limit else 0.0 for distance in distances]
