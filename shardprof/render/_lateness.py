"""Who kept the others waiting, as a matrix of ranks and steps."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.analysis.result import Rank, Result, Step
from shardprof.render._tables import Table
from shardprof.render._words import duration, percent, time_scale
from shardprof.words import plural

_MOST_RANKS = 32


def lateness_verdict(result: Result) -> str:
    """How much of a step is waiting, and for whom."""
    steps = _steps(result.ranks)
    if not steps or result.stragglers is None:
        return "Ranks can be compared where the traces of several are there."
    wait_ns, wall_ns = sum(step.wait_ns or 0 for step in steps), sum(step.wall_ns for step in steps)
    waiting = (
        f"{duration(wait_ns / len(steps))} a step and rank ({percent(wait_ns / wall_ns)}) is waiting for other ranks"
    )
    if not result.stragglers:
        return f"No rank in particular: {waiting}, now for one, now for another."
    late = ", ".join(f"rank {straggler.rank}" for straggler in result.stragglers)
    return f"{late}: {waiting}."


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
