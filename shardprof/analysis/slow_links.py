"""Ranks whose link to other machines is slower than the others': by what TCP sends while it has something to send."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from shardprof.analysis.result import Evidence, Rank, Step, Straggler
from shardprof.words import milliseconds

SLOW = 0.6
LEAST_BUSY = 0.1
LEAST_SHARE = 0.01
MOST_STEPS = 0.5
COMPARABLE = 0.8


def slow_links(ranks: Sequence[Rank]) -> tuple[Straggler, ...]:
    """Those that send at less than SLOW of the others' median rate in most steps, though sending takes LEAST_BUSY of
    them; the most expensive first.

    A rank that sends less than COMPARABLE of what the others do may only wait behind those it shares a link with: it is
    not named where one of its node sends as fast as ranks usually do.
    """
    found = [straggler for rank in ranks if (straggler := _slow(rank, [o for o in ranks if o is not rank]))]
    return tuple(sorted(found, key=lambda straggler: -straggler.cost_ns_per_step))


def _slow(rank: Rank, others: Sequence[Rank]) -> Straggler | None:
    steps = _sending(rank)
    usual = [rate for other in others if (rate := _rate(_sending(other)))]
    own = _rate(steps)
    if not steps or not usual or not own or own >= SLOW * median(usual) or _waits_behind(rank, others, median(usual)):
        return None
    slow = [step for step in steps if (rate := _rate([step])) and rate < SLOW * median(usual)]
    busy_ns = fmean(min(1e9 * step.counters["tcp_busy_s"], step.wall_ns) for step in steps)  # connections overlap
    cost_ns = round(busy_ns * (1 - own / median(usual)))
    wall_ns = fmean(step.wall_ns for step in steps)
    if len(slow) <= MOST_STEPS * len(steps) or busy_ns < LEAST_BUSY * wall_ns or cost_ns <= LEAST_SHARE * wall_ns:
        return None
    told = (
        f"sends at {own / 1e6:,.3g} MB/s to other machines while it has something to send, "
        f"{milliseconds(busy_ns)} a step; the others at {median(usual) / 1e6:,.3g}"
    )
    worst = max(slow, key=lambda step: step.counters["tcp_busy_s"])
    return Straggler(
        rank=rank.rank,
        cause="link",
        cost_ns_per_step=cost_ns,
        steps=len(slow),
        of_steps=len(steps),
        evidence=(
            Evidence(message=told, rank=rank.rank, step=None, begin_ns=None, end_ns=None),
            Evidence(
                message=f"the longest: it sends for {milliseconds(1e9 * worst.counters['tcp_busy_s'])}",
                rank=rank.rank,
                step=worst.step,
                begin_ns=worst.begin_ns,
                end_ns=worst.begin_ns + worst.wall_ns,
            ),
        ),
    )


def _waits_behind(rank: Rank, others: Sequence[Rank], usual: float) -> bool:
    """Whether a rank sends little over a link that is as fast as usual for another one."""
    if _sent(rank) >= COMPARABLE * median(map(_sent, others)) or rank.host is None:
        return False
    beside = [rate for other in others if other.host == rank.host and (rate := _rate(_sending(other)))]
    return any(rate >= SLOW * usual for rate in beside)


def _sent(rank: Rank) -> float:
    """Bytes a step."""
    steps = [step for step in rank.steps if not step.empty]
    return sum(step.counters.get("tcp_sent_bytes", 0.0) for step in steps) / len(steps) if steps else 0.0


def _sending(rank: Rank) -> list[Step]:
    return [step for step in rank.steps if not step.empty and step.counters.get("tcp_busy_s")]


def _rate(steps: Sequence[Step]) -> float | None:
    """Bytes a second while something was on its way."""
    busy_s = sum(step.counters["tcp_busy_s"] for step in steps)
    return sum(step.counters.get("tcp_sent_bytes", 0.0) for step in steps) / busy_s if busy_s else None
