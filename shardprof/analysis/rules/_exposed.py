"""Communication that steps wait for, by kind and phase: what several rules ask about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.phases import PHASES

LEAST_SHARE = 0.03
WHOLE_STEP = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed(Observation):
    """Communication of one `kind` that was launched in one `phase` ("step": in any) and that nothing computes under for
    `exposed_ns` of a step. Its evidence is the most exposed call."""

    kind: str
    phase: str
    exposed_ns: float
    calls: float

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.phase}"


def observe(view: View) -> Iterator[Exposed]:
    """All that steps wait for during more than LEAST_SHARE of their time."""
    collectives = view.activities.collectives
    told = np.flatnonzero(collectives.row != UNKNOWN)
    rows = collectives.row[told]
    in_steps = np.isin(rows, view.rows(rows))
    told, rows = told[in_steps], rows[in_steps]
    phases = view.phases(collectives.launched_ns[told])
    for kind in np.unique(collectives.kind[told]).tolist():
        of_kind = collectives.kind[told] == kind
        yield from _exposed(view, rows[of_kind], COMM_KINDS[kind], WHOLE_STEP)
        for phase in np.unique(phases[of_kind]).tolist():
            yield from _exposed(view, rows[of_kind & (phases == phase)], COMM_KINDS[kind], PHASES[phase])


def _exposed(view: View, rows: Int64s, kind: str, phase: str) -> Iterator[Exposed]:
    exposed_ns = view.exposed_ns(view.merged(rows))
    if exposed_ns < LEAST_SHARE * view.step_ns:
        return
    yield Exposed(
        rank=view.rank,
        evidence=(view.at(view.most_exposed(rows), f"the most exposed {kind.replace('_', '-')}"),),
        rows=view.in_sample(rows),
        kind=kind,
        phase=phase,
        exposed_ns=exposed_ns,
        calls=view.a_step(len(rows)),
    )
