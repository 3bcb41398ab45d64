"""Which ranks keep the others waiting, step after step, and what they do meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from statistics import fmean, median

import numpy as np

from shardprof.analysis.result import Evidence, Rank, Straggler
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.gaps import DOING
from shardprof.trace.across.lateness import Lateness
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN

LEAST_SHARE = 0.01
MOST_STEPS = 0.5
MORE_WORK = 0.05
FEWEST_STEPS = 3
CHANCE = 0.05

_CAUSES = {"compute": "compute", "data_loading": "data_loading", "host": "launch"}
_WORDS = {
    "compute": "it computes",
    "data_loading": "it waits for data",
    "host": "its CPU has not launched what comes next, and computes nothing,",
    "copies": "it copies",
    "communication": "it communicates with other ranks",
}


@dataclass(frozen=True, slots=True)
class _Late:
    """A rank in one step: what it made others wait by doing of its own, and its rows of the Lateness."""

    cost_ns: int
    rows: tuple[int, ...]


def with_lateness(ranks: Sequence[Rank], calls: Calls, late: Lateness, wait_ns: np.ndarray) -> tuple[Rank, ...]:
    """The ranks, each step with what the rank waited in it for others, and others for it; `wait_ns` is of each call."""
    waited: dict[tuple[int, int], int] = {}
    for rank, step, time_ns in zip(calls.rank.tolist(), calls.step.tolist(), wait_ns.tolist(), strict=True):
        waited[rank, step] = waited.get((rank, step), 0) + time_ns
    by_step = _by_step(calls, late)
    return tuple(
        replace(
            rank,
            steps=tuple(
                replace(
                    step,
                    wait_ns=waited.get((rank.rank, step.step), 0),
                    late_ns=by_step[rank.rank, step.step].cost_ns if (rank.rank, step.step) in by_step else 0,
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
    found = [_straggler(rank.rank, ranks, walls, by_step, calls, late) for rank in ranks]
    return tuple(sorted((s for s in found if s), key=lambda s: -s.cost_ns_per_step))


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
    is_frequent = len(slow) > MOST_STEPS * len(walls) and (
        len(walls) >= FEWEST_STEPS or _is_no_chance(int(late.last[rows].sum()), late.met, len(ranks))
    )
    if not is_frequent or cost_ns <= LEAST_SHARE * fmean(walls.values()):
        return None
    doing = late.late_ns[rows].sum(axis=0)
    what = DOING[int(doing.argmax())]
    work, usual_work = int(late.work[rows].sum()), int(late.usual_work[rows].sum())
    cause = _CAUSES.get(what, "unknown")
    if cause == "compute" and work > (1 + MORE_WORK) * usual_work:
        cause = "imbalance"
    return Straggler(
        rank=rank,
        cause=cause,
        cost_ns_per_step=cost_ns,
        steps=len(slow),
        of_steps=len(walls),
        evidence=_evidence(rank, what, rows, len(walls), calls, late),
    )


def _is_no_chance(last: int, meetings: int, ranks: int) -> bool:
    """Would one of so many ranks come last to so many of the collectives by chance in less than 5 of 100 cases?"""
    share = 1 / ranks
    more = (comb(meetings, k) * share**k * (1 - share) ** (meetings - k) for k in range(last, meetings + 1))
    return sum(more) < CHANCE


def _evidence(
    rank: int, what: str, rows: Sequence[int], steps: int, calls: Calls, late: Lateness
) -> tuple[Evidence, ...]:
    column = DOING.index(what)
    longer_ms = late.late_ns[rows, column].sum() / steps / 1e6
    told = (
        f"comes last to {int(late.last[rows].sum())} of {late.met} collectives: "
        f"before them {_WORDS[what]} {longer_ms:,.3g} ms a step longer"
    )
    if what == "compute":
        work, usual = int(late.work[rows].sum()), int(late.usual_work[rows].sum())
        told += f" ({work / steps:,.0f} kernels or operators a step, where the others have {usual / steps:,.0f})"
    worst = int(late.call[max(rows, key=lambda row: int(late.late_ns[row, column]))])
    begin_ns, doing_ns = int(calls.begin_ns[worst]), int(calls.doing_ns[worst].sum())
    kind = COMM_KINDS[int(calls.kind[worst])].replace("_", "-")
    most_ms = int(late.late_ns[rows, column].max()) / 1e6
    return (
        Evidence(message=told, rank=rank, step=None, begin_ns=None, end_ns=None),
        Evidence(
            message=f"the longest: {most_ms:,.3g} ms, before this {kind}",
            rank=rank,
            step=int(calls.step[worst]),
            begin_ns=begin_ns - doing_ns,
            end_ns=begin_ns,
        ),
    )
