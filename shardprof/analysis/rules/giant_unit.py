"""R07: one all-gather moves most of the model, so that nothing is left to compute beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.phases import OPTIMIZER
from shardprof.words import plural

LEAST_PART = 0.5
MOST_PART = 1.02
"""What is larger than all parameters, but for padding, gathers something else."""
LEAST_BYTES = 10_000_000
"""A smaller one would be cut into calls below 1 MB, which their start bounds."""
_KNOBS = {
    "FSDP2": "fully_shard(block) for each block, and for a large embedding, before fully_shard(model)",
    "FSDP1": "FullyShardedDataParallel(model, auto_wrap_policy=ModuleWrapPolicy({Block}))",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest(Observation):
    """The largest all-gather of forward and backward."""

    payload_bytes: int


def observe(view: View) -> Iterator[Largest]:
    """It, where sizes are known."""
    gathers = view.activities.collectives.launched_inside(view.windows)
    is_told = (gathers.payload_bytes != UNKNOWN) & (gathers.row != UNKNOWN)
    gathers = gathers.where((gathers.kind == COMM_KINDS.index("all_gather")) & is_told)
    gathers = gathers.where(view.phases(gathers.launched_ns) != OPTIMIZER)
    if len(gathers):
        at = int(np.argmax(gathers.payload_bytes))
        evidence = view.at(int(gathers.row[at]), "this one")
        yield Largest(rank=view.rank, evidence=(evidence,), payload_bytes=int(gathers.payload_bytes[at]))


def giants(case: Case) -> list[Largest]:
    """All-gathers of LEAST_PART of what a step gathers once, by rank."""
    whole_bytes = case.number("gather_bytes") or case.number("parameter_bytes")
    if whole_bytes is None or _turn(case) is None or not case.is_one_dimensional:
        return []
    least_bytes = max(LEAST_PART * whole_bytes, LEAST_BYTES)
    return [one for one in case.seen(Largest) if least_bytes <= one.payload_bytes <= MOST_PART * whole_bytes]


def find(case: Case) -> Iterator[Finding]:
    """Where a unit of FSDP is half of the model or more, or ZeRO-3 prefetches as much at once."""
    found, turn = giants(case), _turn(case)
    if not found or turn is None:
        return
    largest = max(found, key=lambda one: one.payload_bytes)
    share = min(largest.payload_bytes / (case.number("gather_bytes") or case.number("parameter_bytes") or 1), 1)
    units = case.number("units")
    yield case.finding(
        "R07",
        f"One all-gather moves {share:.0%} of the parameters".replace("%", " %"),
        [
            said(f"none of these {largest.payload_bytes / 1e6:,.3g} MB computes before all of them are there, and all "
                 "are in memory at once" + (f"; sharding has {plural(round(units), 'unit')}" if units else "")),
            *largest.evidence,
        ],
        _cost_ns(case),
        turn,
    )  # fmt: skip


def _cost_ns(case: Case) -> float | None:
    """What smaller units could hide: all that is exposed, if there is as much compute; None where it is memory only."""
    seen = case.exposed("all_gather", "reduce_scatter")
    if not case.on_gpu or not seen:
        return None
    moving_ns = case.mean_of_ranks(seen, lambda one: one.moving_ns)
    return min(case.cost_ns(seen, moving_ns), case.steps.groups_ns["compute"] / case.steps.count)


def _turn(case: Case) -> Turn | None:
    """None where nothing is to be cut."""
    knob = _zero3_bucket(case) if case.setting("zero_stage") == 3 else _KNOBS.get(case.framework)
    if knob is None:
        return None
    return Turn(
        advice="shard block by block: a block is gathered while the one before it computes, and freed after it",
        knob=knob,
        side_effect="more, smaller collectives",
        disproof="the peak of allocated memory does not fall, and the all-gathers are as exposed",
    )


def _zero3_bucket(case: Case) -> str | None:
    bucket, parameters = case.number("stage3_prefetch_bucket_elements"), case.number("parameters")
    if bucket is None or parameters is None or bucket < LEAST_PART * parameters:
        return None
    smaller = max(round(parameters / 10), 1)
    return f'"zero_optimization": {{"stage3_prefetch_bucket_size": {smaller}}}'
