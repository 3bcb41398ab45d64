"""Which ranks keep the others waiting, step after step, and what they do meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import exp, lgamma, log, log1p, sqrt
from statistics import fmean, median, stdev

import numpy as np

from shardprof.analysis.result import Evidence, Rank, Straggler
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.gaps import DOING
from shardprof.trace.across.lateness import Lateness
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, ProcessGroup
from shardprof.words import milliseconds

LEAST_SHARE = 0.01
MOST_STEPS = 0.5
MORE_WORK = 0.05
FEWEST_STEPS = 3
CHANCE = 0.05

REPLICAS = ("data parallel", "mesh_dp", "dp")
"""What the group of the ranks that hold the same layers is called, where a job has a pipeline."""

_CAUSES = {"compute": "compute", "data_loading": "data_loading", "host": "launch"}
_WORDS = {
    "compute": "computes",
    "data_loading": "waits for data",
    "host": "computes nothing, since its CPU has not given it what comes next,",
    "copies": "copies",
    "communication": "communicates with other ranks",
}


@dataclass(frozen=True, slots=True)
class _Late:
    """A rank in one step: what it made others wait by doing of its own, and its rows of the Lateness."""

    cost_ns: int
    rows: tuple[int, ...]


def with_lateness(ranks: Sequence[Rank], calls: Calls, late: Lateness, wait_ns: np.ndarray) -> tuple[Rank, ...]:
    """The ranks, each step with what the rank waited in it for others, and others for it; `wait_ns` is of each call,
    UNKNOWN where no other rank was seen in its collective. Steps without any that another was seen in tell neither."""
    waited: dict[tuple[int, int], int] = {}
    for rank, step, time_ns in zip(calls.rank.tolist(), calls.step.tolist(), wait_ns.tolist(), strict=True):
        if time_ns != UNKNOWN:
            waited[rank, step] = waited.get((rank, step), 0) + time_ns
    by_step = _by_step(calls, late)
    return tuple(
        replace(
            rank,
            steps=tuple(
                replace(
                    step,
                    wait_ns=waited.get((rank.rank, step.step)),
                    late_ns=by_step.get((rank.rank, step.step), _Late(0, ())).cost_ns
                    if (rank.rank, step.step) in waited
                    else None,
                )
                for step in rank.steps
            ),
        )
        for rank in ranks
    )


def stragglers(ranks: Sequence[Rank], calls: Calls, late: Lateness) -> tuple[Straggler, ...]:
    """The ranks that cost more than LEAST_SHARE of a step in most steps, the most expensive first."""
    by_step = _by_step(calls, late)
    walls = _walls(ranks)
    named = [_straggler(rank.rank, ranks, walls, by_step, calls, late) for rank in ranks]
    found = [straggler for straggler in named if straggler]
    same_role = _by_role(calls.groups)
    slow = {straggler.rank for straggler in found if straggler.cause == "compute"}
    told = [_of_its_stage(straggler) if _is_shared(straggler, slow, same_role) else straggler for straggler in found]
    return tuple(sorted(told, key=lambda straggler: -straggler.cost_ns_per_step))


def _of_its_stage(straggler: Straggler) -> Straggler:
    shared = "the others that hold the same stage of the pipeline are as slow"
    evidence = Evidence(message=shared, rank=straggler.rank, step=None, begin_ns=None, end_ns=None)
    return replace(straggler, cause="imbalance", evidence=(*straggler.evidence, evidence))


def _is_shared(straggler: Straggler, slow: Set[int], same_role: Mapping[int, frozenset[int]]) -> bool:
    """Are most of those that do the same as it does slow as well?"""
    others = same_role.get(straggler.rank, frozenset())
    return straggler.cause == "compute" and 2 * len(others & slow) > len(others)


def _by_role(groups: Sequence[ProcessGroup]) -> dict[int, frozenset[int]]:
    """For each rank those that do the same as it does in a pipeline: the replicas of its stage. Empty without one."""
    stages = [frozenset(group.ranks) for group in groups if group.description in REPLICAS and group.ranks]
    return {rank: stage for stage in stages if len(stage) > 1 for rank in stage}


def _by_step(calls: Calls, late: Lateness) -> dict[tuple[int, int], _Late]:
    """By rank and step, of the collectives launched inside steps."""
    rows: dict[tuple[int, int], list[int]] = {}
    keys = zip(calls.rank[late.call].tolist(), calls.step[late.call].tolist(), strict=True)
    for row, (rank, step) in enumerate(keys):
        if step != UNKNOWN:
            rows.setdefault((rank, step), []).append(row)
    return {key: _Late(int(late.late_ns[of_key].sum()), tuple(of_key)) for key, of_key in rows.items()}


def _walls(ranks: Sequence[Rank]) -> dict[int, float]:
    """How long each step with work took, in the median over ranks."""
    walls: dict[int, list[int]] = {}
    for rank in ranks:
        for step in rank.steps:
            if not step.empty:
                walls.setdefault(step.step, []).append(step.wall_ns)
    return {step: median(times) for step, times in walls.items()}


def _straggler(
    rank: int,
    ranks: Sequence[Rank],
    walls: Mapping[int, float],
    by_step: Mapping[tuple[int, int], _Late],
    calls: Calls,
    late: Lateness,
) -> Straggler | None:
    others = [other.rank for other in ranks if other.rank != rank]
    if not others or not walls:
        return None
    nothing = _Late(0, ())
    usual = {step: median(by_step.get((other, step), nothing).cost_ns for other in others) for step in walls}
    costs = {step: by_step.get((rank, step), nothing).cost_ns - usual[step] for step in walls}
    slow = [step for step in walls if costs[step] > LEAST_SHARE * walls[step]]
    cost_ns = round(fmean(costs.values()))
    rows = [row for step in walls for row in by_step.get((rank, step), nothing).rows]
    is_frequent = len(slow) > MOST_STEPS * len(walls) and cost_ns > LEAST_SHARE * fmean(walls.values())
    met = int(((calls.rank == rank) & (calls.step != UNKNOWN)).sum())
    is_chance = not _is_steady(list(costs.values())) and not _is_no_chance(int(late.last[rows].sum()), met, len(ranks))
    if not is_frequent or is_chance:
        return None
    what = DOING[int(late.late_ns[rows].sum(axis=0).argmax())]
    has_more = late.work[rows].sum() > (1 + MORE_WORK) * late.usual_work[rows].sum()
    return Straggler(
        rank=rank,
        cause="imbalance" if what == "compute" and has_more else _CAUSES.get(what, "unknown"),
        cost_ns_per_step=cost_ns,
        steps=len(slow),
        of_steps=len(walls),
        evidence=_evidence(what, rows, met, len(walls), calls, late),
    )


def _is_steady(costs_ns: Sequence[float]) -> bool:
    """Is the mean of what it costs in each step more than twice as far from nothing as the steps' scatter explains?"""
    if len(costs_ns) < FEWEST_STEPS:
        return False
    return fmean(costs_ns) > 2 * stdev(costs_ns) / sqrt(len(costs_ns))


def _is_no_chance(last: int, meetings: int, ranks: int) -> bool:
    """Would one of so many ranks come last to so many of the collectives by chance in less than 5 of 100 cases?"""
    share = 1 / ranks
    all_ways = lgamma(meetings + 1)
    more = (
        exp(all_ways - lgamma(k + 1) - lgamma(meetings - k + 1) + k * log(share) + (meetings - k) * log1p(-share))
        for k in range(last, meetings + 1)
    )
    return sum(more) < CHANCE


def _evidence(
    what: str, rows: Sequence[int], met: int, steps: int, calls: Calls, late: Lateness
) -> tuple[Evidence, ...]:
    column = DOING.index(what)
    longer = milliseconds(late.late_ns[rows, column].sum() / steps)
    told = (
        f"comes last to {int(late.last[rows].sum()):,} of its {met:,} collectives: "
        f"before them it {_WORDS[what]} {longer} a step longer than the others"
    )
    if what == "compute":
        work, usual = late.work[rows].mean(), late.usual_work[rows].mean()
        told += f" ({work:,.0f} kernels or operators a step, where the others have {usual:,.0f})"
    worst_row = max(rows, key=lambda row: int(late.late_ns[row, column]))
    worst = int(late.call[worst_row])
    begin_ns, doing_ns = int(calls.begin_ns[worst]), int(calls.doing_ns[worst].sum())
    kind = COMM_KINDS[int(calls.kind[worst])].replace("_", "-")
    rank = int(calls.rank[worst])
    return (
        Evidence(message=told, rank=rank, step=None, begin_ns=None, end_ns=None),
        Evidence(
            message=f"the longest: {milliseconds(int(late.late_ns[worst_row, column]))}, before this {kind}",
            rank=rank,
            step=int(calls.step[worst]),
            begin_ns=begin_ns - doing_ns,
            end_ns=begin_ns,
        ),
    )
