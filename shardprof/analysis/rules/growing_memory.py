"""R30: memory grows from step to step: something keeps tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View

FEWEST_STEPS = 20
LEAST_GROWTH = 0.02
LEAST_GROWTH_BYTES = 16_000_000
_WARM_UP = 2
_PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing(Observation):
    """What is allocated at a step's end grew from `from_bytes` to `to_bytes` in `steps`."""

    from_bytes: int
    to_bytes: int
    steps: int


def observe(view: View) -> Iterator[Growing]:
    """The least that is allocated in each part of the run is more than in the part before it, and goes on to grow: what
    is kept, rather than what batches of other sizes need."""
    held = [step.cuda_memory.get("allocated_bytes", 0) for step in view.step_records if step.cuda_memory][_WARM_UP:]
    if len(held) < FEWEST_STEPS:
        return
    floors = np.array([part.min() for part in np.array_split(np.array(held, dtype=np.int64), _PARTS)])
    grown = np.diff(floors)
    growth = int(floors[-1] - floors[0])
    goes_on = (grown > 0).all() and grown[-1] >= grown.mean() / 2
    if goes_on and growth >= max(LEAST_GROWTH * floors[0], LEAST_GROWTH_BYTES):
        yield Growing(rank=view.rank, from_bytes=int(floors[0]), to_bytes=int(floors[-1]), steps=len(held))


def find(case: Case) -> Iterator[Finding]:
    """On the rank where it grows most."""
    if seen := case.seen(Growing):
        yield _finding(case, max(seen, key=lambda observation: observation.to_bytes - observation.from_bytes))


def _finding(case: Case, worst: Growing) -> Finding:
    a_step = (worst.to_bytes - worst.from_bytes) / (worst.steps * (_PARTS - 1) / _PARTS)
    return case.finding(
        "R30",
        f"Allocated GPU memory grows by {a_step / 1e6:,.3g} MB a step",
        [said(f"on rank {worst.rank} steps end with {worst.from_bytes / 1e9:,.3f} GB at first and "
              f"{worst.to_bytes / 1e9:,.3f} GB {worst.steps:,} steps later, at the least; it never falls back")],
        None,
        Turn(
            advice="look for what keeps tensors from step to step: losses in a list with their graph, caches, hooks",
            knob="losses.append(loss.detach()) or loss.item(); `shardprof record --memory` shows who allocates",
            side_effect="none",
            disproof="it stops to grow later on: then it is a cache that fills",
        ),
    )  # fmt: skip
