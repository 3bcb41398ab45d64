"""R34: ranks exchange Python objects or meet at a barrier in every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._exchanges import exchanges
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, longest, won_ns
from shardprof.engine import holding
from shardprof.trace.classes import OTHER_COMM
from shardprof.words import milliseconds

LEAST_SHARE = 0.01
_TURNS = {
    "barrier": Turn(
        advice="leave the barrier out: each collective waits for all ranks anyway",
        knob="no torch.distributed.barrier() in the loop, only around checkpoints and files",
        side_effect="ranks may be some steps' worth of launches apart when they print or write",
        disproof="the next collective waits as long: then ranks come at different times, which the barrier only shows",
    ),
    "objects": Turn(
        advice="exchange numbers as tensors, all of them in one collective, and not in every step",
        knob="torch.distributed.all_reduce(torch.stack([loss, accuracy])) every 100 steps",
        side_effect="what is logged is of every hundredth step",
        disproof="ranks wait as long at the next collective: then they come at different times",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanging(Waiting):
    """`calls` of one `name` a step."""

    name: str
    calls: float

    @property
    def subject(self) -> str:
        return f"Exchanging {self.name}"


def observe(view: View) -> Iterator[Exchanging]:
    """Those of half of the steps or more that take more than LEAST_SHARE of a step."""
    for exchange in exchanges(view):
        steps = holding(view.windows, exchange.begins_ns)
        exposed_ns = view.exposed_ns(view.merged(exchange.rows))
        rows = view.rows(np.concatenate((exchange.rows, exchange.waits)))
        most_ns = exposed_ns + view.idled_ns(exchange.waits)
        is_usual = 2 * len(np.unique(steps[steps >= 0])) >= len(view.windows)
        if not is_usual or most_ns < LEAST_SHARE * view.step_ns:
            continue
        yield Exchanging(
            rank=view.rank,
            evidence=(longest(view, rows, "the longest"),),
            rows=view.in_sample(rows),
            most_ns=most_ns,
            name=exchange.name,
            calls=view.a_step(int((steps >= 0).sum())),
        )


def find(case: Case) -> Iterator[Finding]:
    """A finding for each call that costs more than LEAST_SHARE of a step."""
    seen = case.seen(Exchanging)
    for name in sorted({observation.name for observation in seen}):
        of_name = [observation for observation in seen if observation.name == name]
        if won_ns(case, of_name) >= LEAST_SHARE * case.step_ns:
            yield _finding(case, name, of_name)


def _finding(case: Case, name: str, seen: list[Exchanging]) -> Finding:
    worst = max(seen, key=lambda observation: observation.most_ns)
    times = "once" if worst.calls == 1 else f"{worst.calls:,.3g} times"
    return case.finding(
        "R34",
        f"Ranks meet in torch.distributed.{name} {times} a step",
        [
            said(
                f"on rank {worst.rank} nothing computes for {milliseconds(worst.most_ns)} a step beside it or after it"
            ),
            case.longest(seen, OTHER_COMM, "it takes longest here"),
        ],
        won_ns(case, seen),
        _TURNS["barrier" if name == "barrier" else "objects"],
    )
