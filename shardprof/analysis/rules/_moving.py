"""Communication that steps wait for, and how much of that its bytes take: the rest is waiting for ranks that come late,
which is known when all ranks are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from shardprof.analysis.result import Evidence
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.analysis.together import Together
from shardprof.engine import Int64s, Intervals, covered_ns, holding
from shardprof.trace.collectives import Collectives
from shardprof.trace.events import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimes:
    """A row a call: when it began and ended, relative to `base_ns`, how much of it nothing computed under, its step,
    and whether that is the one that is replayed."""

    base_ns: int
    begin_ns: Int64s
    end_ns: Int64s
    alone_ns: Int64s
    step: Int64s
    in_sample: Mask

    def moving_ns(self, waited_ns: Int64s) -> Int64s:
        """How long at most nothing computed while a call moved its bytes."""
        moved: Int64s = np.minimum(self.alone_ns, np.maximum(self.end_ns - self.begin_ns - waited_ns, 0))
        return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Communicating(Observation):
    """Calls that nothing computes under for `exposed_ns` of a step, for `moving_ns` of it while bytes move. No more
    than that is won by moving less or earlier, so that `cost_ns` is of this. Its evidence is the most exposed call."""

    exposed_ns: float
    moving_ns: float
    times: CallTimes


def call_times(view: View, calls: Collectives) -> CallTimes:
    """Those of some of a trace's communications, which begin in a step."""
    spans: Intervals = np.stack((calls.begin_ns, calls.end_ns), axis=1)
    numbers = np.array(view.steps.numbers, dtype=np.int64)[np.argsort(view.steps.windows[:, 0], kind="stable")]
    return CallTimes(
        base_ns=view.trace.base_ns,
        begin_ns=calls.begin_ns,
        end_ns=calls.end_ns,
        alone_ns=calls.end_ns - calls.begin_ns - covered_ns(view.activities.compute, spans),
        step=numbers[holding(view.windows, calls.begin_ns)],
        in_sample=np.isin(calls.row, view.in_sample(calls.row)),
    )


def without_waiting(seen: Iterable[Observation], ranks: Together) -> list[Observation]:
    """What was seen of communication, without what its calls waited for the last rank. Of all ranks only the one with
    the best evidence keeps it: a call that is exposed for long and hardly waits."""
    waits = _Waits(ranks)
    made, best = list[Observation](), dict[str, tuple[float, int]]()
    for observation in seen:
        if isinstance(observation, Communicating):
            waited_ns = waits.of(observation)
            weight, call = _clearest(observation.times, waited_ns)
            best[observation.subject] = max(best.get(observation.subject, (-1.0, -1)), (weight, len(made)))
            observation = _moving(observation, waited_ns, call)
        made.append(observation)
    shown = {index for _, index in best.values()}
    return [
        replace(one, evidence=()) if isinstance(one, Communicating) and index not in shown else one
        for index, one in enumerate(made)
    ]


class _Waits:
    """How long each rank's calls waited for the last rank, by their begin."""

    def __init__(self, ranks: Together) -> None:
        self._begin_ns: dict[int, Int64s] = {}
        self._waited_ns: dict[int, Int64s] = {}
        for rank in np.unique(ranks.calls.rank).tolist():
            rows = np.flatnonzero(ranks.calls.rank == rank)
            rows = rows[np.argsort(ranks.calls.begin_ns[rows], kind="stable")]
            self._begin_ns[rank], self._waited_ns[rank] = ranks.calls.begin_ns[rows], ranks.wait_ns[rows]

    def of(self, seen: Communicating) -> Int64s:
        rows = np.searchsorted(self._begin_ns[seen.rank], seen.times.begin_ns + seen.times.base_ns)
        return np.maximum(self._waited_ns[seen.rank][rows], 0)  # not told is not waited


def _clearest(times: CallTimes, waited_ns: Int64s) -> tuple[float, int]:
    """The call that is exposed for longest, discounted by the share of it that waits; with that time."""
    moving_ns = times.moving_ns(waited_ns)
    weights = moving_ns.astype(np.float64) ** 2 / np.maximum(times.end_ns - times.begin_ns, 1)
    call = int(weights.argmax())
    return float(weights[call]), call


def _moving(seen: Communicating, waited_ns: Int64s, call: int) -> Communicating:
    times, moving_ns = seen.times, seen.times.moving_ns(waited_ns)
    moving = min(seen.exposed_ns, seen.exposed_ns * _share(moving_ns, times.alone_ns))
    sampled = _share(moving_ns[times.in_sample], times.alone_ns[times.in_sample])
    return replace(
        seen,
        moving_ns=moving,
        cost_ns=None if seen.cost_ns is None else round(min(seen.cost_ns * sampled, moving)),
        evidence=tuple(_of_call(evidence, times, call) for evidence in seen.evidence),
    )


def _of_call(evidence: Evidence, times: CallTimes, call: int) -> Evidence:
    begin_ns, end_ns = times.base_ns + int(times.begin_ns[call]), times.base_ns + int(times.end_ns[call])
    return replace(evidence, step=int(times.step[call]), begin_ns=begin_ns, end_ns=end_ns)


def _share(moving_ns: Int64s, alone_ns: Int64s) -> float:
    alone = int(alone_ns.sum())
    return int(moving_ns.sum()) / alone if alone else 1.0
