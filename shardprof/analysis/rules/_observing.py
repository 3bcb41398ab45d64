"""What rules saw in the traces, rank by rank, with what a replayed step says it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shardprof.analysis.result import Evidence
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s
from shardprof.trace.quality import Quality

MOST_RANKS_REPLAYED = 2
MOST_REPLAY_ERROR = 0.05
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a rule saw on one rank. `rows` are the events of the view's sample that it would win; what that costs a step
    is `cost_ns`, None where it was not replayed."""

    rank: int
    evidence: tuple[Evidence, ...] = ()
    rows: Int64s = field(default_factory=lambda: _NONE)
    cost_ns: int | None = None

    @property
    def subject(self) -> str:
        """What is seen alike on several ranks: for each subject some of them are replayed."""
        return type(self).__name__


Observe = Callable[[View], Iterator[Observation]]


@dataclass
class Observer:
    """Takes the traces one by one; `doubts` are of ranks whose replays tell too little."""

    rules: Sequence[Observe]
    seen: list[Observation] = field(default_factory=list)
    doubts: dict[int, Quality] = field(default_factory=dict)
    _replayed: Counter[str] = field(default_factory=Counter)

    def take(self, view: View) -> None:
        """Whatever any rule sees in a trace."""
        costs_asked = False
        for observe in self.rules:
            for observation in observe(view):
                is_replayed = len(observation.rows) > 0 and self._replayed[observation.subject] < MOST_RANKS_REPLAYED
                cost_ns = view.cost_ns(observation.rows) if is_replayed else None
                self._replayed[observation.subject] += is_replayed
                costs_asked |= is_replayed
                self.seen.append(replace(observation, rows=_NONE, cost_ns=cost_ns))
        if costs_asked and view.replay_error > MOST_REPLAY_ERROR:
            self.doubts[view.rank] = _not_trusted(view)


def _not_trusted(view: View) -> Quality:
    message = (
        f"what findings cost is not to be trusted: by what its trace tells of dependencies, a step of rank {view.rank} "
        f"would last {view.replay_error:.0%} longer or shorter than it did".replace("%", " %")
    )
    return Quality(code="costs_not_trusted", message=message)
