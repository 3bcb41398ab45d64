"""Who kept the others waiting, as a matrix of ranks and steps."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.analysis.result import Rank, Result, Step
from shardprof.render._tables import Table
from shardprof.render._words import percent
from shardprof.words import duration, plural, time_scale

_MOST_RANKS = 32
WORTH_A_WORD = 0.01


def lateness_verdict(result: Result) -> str:
    """How much of a step is waiting, and for whom."""
    if result.stragglers is None:
        return "Ranks can be compared where the traces of several are there."
    waits_ns = [(step.wait_ns, step.wall_ns) for step in _steps(result.ranks) if step.wait_ns is not None]
    if not waits_ns:
        return "No communication was seen on several ranks in one step: who waits for whom is not known."
    wait_ns, wall_ns = (sum(times) for times in zip(*waits_ns, strict=True))
    waiting = (
        f"{duration(wait_ns / len(waits_ns))} a step and rank ({percent(wait_ns / wall_ns)}) is waiting for other ranks"
    )
    if not result.stragglers:
        return f"No rank stands out: {waiting}{_most(result.ranks)}."
    late = ", ".join(f"rank {straggler.rank}" for straggler in result.stragglers)
    return f"{late}: {waiting}."


def _most(ranks: Sequence[Rank]) -> str:
    """Who costs the others most, where that is worth a word."""
    costs = {rank.rank: [(step.late_ns or 0, step.wall_ns) for step in _steps([rank])] for rank in ranks}
    worst = max(costs, key=lambda rank: sum(late_ns for late_ns, _ in costs[rank]))
    late_ns, wall_ns = (sum(times) for times in zip(*costs[worst], strict=True))
    often = sum(late > WORTH_A_WORD * wall for late, wall in costs[worst])
    if late_ns <= WORTH_A_WORD * wall_ns:
        return ", for none of them more than 1 % of a step"
    steps = len(costs[worst])
    return f", most for rank {worst}: {duration(late_ns / steps)} a step, in {often} of {plural(steps, 'step')}"


def lateness_table(ranks: Sequence[Rank]) -> Table | None:
    """What each rank cost the others by doing of its own, in each step; of very many ranks the most expensive."""
    numbers = sorted({step.step for rank in ranks for step in rank.steps if not step.empty})
    late = {rank.rank: {step.step: step.late_ns for step in rank.steps if step.late_ns is not None} for rank in ranks}
    if not numbers or not any(late.values()):
        return None
    most = sorted(late, key=lambda rank: -sum(late[rank].values()))[:_MOST_RANKS]
    scale = time_scale(time_ns for rank in most for time_ns in late[rank].values())
    columns = [str(number) for number in numbers]
    hidden = len(late) - len(most)
    return Table(
        columns=("rank", f"{scale.unit} a step", *columns),
        rows=tuple(
            (
                str(rank),
                scale.figure(sum(late[rank].values()) / len(numbers)),
                *(scale.figure(late[rank][number]) if number in late[rank] else "" for number in numbers),
            )
            for rank in sorted(most)
        ),
        words=frozenset(),
        notes=(
            f"how long the others waited for a rank, by doing of its own, in each step ({scale.unit})",
            *((f"{plural(hidden, 'rank')} more",) if hidden else ()),
        ),
        spare=tuple(reversed(columns)),
    )


def _steps(ranks: Sequence[Rank]) -> list[Step]:
    return [step for rank in ranks for step in rank.steps if not step.empty]
