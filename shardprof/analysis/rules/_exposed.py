"""Communication that steps wait for, by kind and phase: what several rules ask about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.rules._moving import Communicating, call_times
from shardprof.analysis.rules._view import View
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives
from shardprof.trace.phases import PHASES

LEAST_SHARE = 0.03
WHOLE_STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed(Communicating):
    """Communication of one `kind` that was launched in one `phase` ("step": in any), `calls` of it a step."""

    kind: str
    phase: str
    calls: float

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.phase}"


def observe(view: View) -> Iterator[Exposed]:
    """All that steps wait for during more than LEAST_SHARE of their time."""
    told = view.activities.collectives
    told = told.where(told.row != UNKNOWN)
    told = told.where(np.isin(told.row, view.rows(told.row)))
    phases = view.phases(told.launched_ns)
    for kind in np.unique(told.kind).tolist():
        of_kind = told.kind == kind
        yield from _exposed(view, told.where(of_kind), COMM_KINDS[kind], WHOLE_STEP)
        for phase in np.unique(phases[of_kind]).tolist():
            yield from _exposed(view, told.where(of_kind & (phases == phase)), COMM_KINDS[kind], PHASES[phase])


def _exposed(view: View, calls: Collectives, kind: str, phase: str) -> Iterator[Exposed]:
    exposed_ns = view.exposed_ns(view.merged(calls.row))
    if exposed_ns < LEAST_SHARE * view.step_ns:
        return
    yield Exposed(
        rank=view.rank,
        evidence=(view.at(view.most_exposed(calls.row), f"the most exposed {kind.replace('_', '-')}"),),
        rows=view.in_sample(calls.row),
        exposed_ns=exposed_ns,
        moving_ns=exposed_ns,
        times=call_times(view, calls),
        kind=kind,
        phase=phase,
        calls=view.a_step(len(calls)),
    )
