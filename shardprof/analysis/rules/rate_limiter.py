"""R09: FSDP1's rate limiter holds the host so long that the GPU lacks work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, longest, won_ns
from shardprof.engine import Int64s
from shardprof.words import milliseconds

LEAST_SHARE = 0.05
LEAST_WON = 0.01
_RANGE = "FullyShardedDataParallel.rate_limiter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiting(Waiting):
    """The host in the rate limiter for `limited_ns` of a step, `calls` times."""

    limited_ns: float
    calls: float


def limiting(view: View) -> Int64s:
    """The ranges of the limiter on host threads, in steps."""
    events = view.events
    return view.rows(events.named(_RANGE.__eq__) & ~events.in_categories("gpu_user_annotation"))


def observe(view: View) -> Iterator[Limiting]:
    """Where they take more than LEAST_SHARE of a step, in which GPUs do not always compute."""
    rows = limiting(view)
    limited_ns = view.a_step_ns(view.merged(rows))
    if not view.on_gpu or limited_ns <= LEAST_SHARE * view.step_ns:
        return
    yield Limiting(
        rank=view.rank,
        evidence=(longest(view, rows, "the host is held here"),),
        rows=view.in_sample(rows),
        most_ns=min(limited_ns, view.step_ns - view.a_step_ns(view.activities.compute)),
        limited_ns=limited_ns,
        calls=view.a_step(len(rows)),
    )


def find(case: Case) -> Iterator[Finding]:
    """Where that costs more than LEAST_WON of a step: a host that is held while the GPU computes costs nothing."""
    seen = case.seen(Limiting)
    if not seen or won_ns(case, seen) < LEAST_WON * case.step_ns:
        return
    worst = max(seen, key=lambda observation: observation.limited_ns)
    yield case.finding(
        "R09",
        f"FSDP1's rate limiter holds the host {milliseconds(worst.limited_ns)} a step",
        [
            said(f"rank {worst.rank} is in it {worst.calls:,.3g} times a step: it lets two all-gathers be under way, "
                 "and launches the next one when the memory of an earlier one is free"),
            case.longest(seen, "launch_bound", "it holds the host longest here"),
        ],
        won_ns(case, seen),
        Turn(
            advice="launch all-gathers ahead, if memory allows, or use FSDP2, which frees memory without the host",
            knob="FullyShardedDataParallel(..., limit_all_gathers=False), or torch.distributed.fsdp.fully_shard",
            side_effect="the memory of more gathered units at once; the allocator may run short and retry, see R10",
            disproof="all-gathers begin no earlier without it: then it is the link, not the host",
        ),
    )  # fmt: skip
