"""R05: gradients are communicated after backward instead of under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import GRADIENT_KINDS, Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import holding, intersect, length_ns
from shardprof.trace.phases import BACKWARD

MOST_OVERLAP = 0.1
LEAST_SHARE = 0.03
PARTS = 4
"""A bucket that holds more than one such part of all gradients is full when backward is nearly over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward(Observation):
    """What backward computes of a step that no communication runs beside: no more can be hidden under it."""

    room_ns: float


def observe(view: View) -> Iterator[Backward]:
    """It, by the kernels launched there, whenever they run: a host may be ahead of them."""
    if not view.on_gpu or view.record is None or view.record.framework != "DeepSpeed":
        return
    events = view.events
    kernels = np.setdiff1d(np.flatnonzero(events.in_categories("kernel")), view.activities.collectives.row)
    calls = view.launches(kernels)
    launched_ns = np.where(calls >= 0, events.begin_ns[calls], events.begin_ns.min() - 1)
    in_steps = holding(view.windows, launched_ns) >= 0
    computing = view.merged(kernels[in_steps & (view.phases(launched_ns) == BACKWARD)])
    beside = intersect(computing, view.activities.all_comm())
    yield Backward(rank=view.rank, room_ns=view.a_step(length_ns(computing) - length_ns(beside)))


def find(case: Case) -> Iterator[Finding]:
    """With DeepSpeed, where its bucket never fills during backward, or nothing may overlap."""
    kinds = case.kinds(*GRADIENT_KINDS)
    comm_ns = sum(kind.comm_ns for kind in kinds)
    overlapped_ns = sum(kind.overlapped_ns for kind in kinds)
    gradients, bucket = case.trained_elements, case.number("reduce_bucket_elements")
    # Without a GPU DeepSpeed waits inside each call, whatever the bucket.
    if case.framework != "DeepSpeed" or not case.on_gpu or not comm_ns or gradients is None or bucket is None:
        return
    is_late = bucket > gradients / PARTS or not case.setting("overlap_comm")
    cost_ns = _cost_ns(case)
    if not is_late or overlapped_ns > MOST_OVERLAP * comm_ns or cost_ns < LEAST_SHARE * case.step_ns:
        return
    seen = case.exposed(*GRADIENT_KINDS)
    smaller = max(round(gradients / 10), 1)
    yield case.finding(
        "R05",
        "Gradients are communicated after backward, which could hide that",
        [
            said(f"{overlapped_ns / comm_ns:.0%} of gradient communication is overlapped; a bucket of {bucket:,.0f} "
                 f"elements, for {gradients:,.0f} gradients, is sent when it is full".replace("%", " %")
                 + ("" if case.setting("overlap_comm") else "; overlap_comm is off")),
            case.longest(seen, max(kinds, key=lambda kind: kind.exposed_ns).kind, "one of the longest"),
        ],
        cost_ns,
        Turn(
            advice="let buckets fill during backward, and communicate them beside it",
            knob=f'"zero_optimization": {{"overlap_comm": true, "reduce_bucket_size": {smaller}}}'
            if case.setting("zero_stage") else "PyTorch DDP, which sends buckets of 25 MB during backward",
            side_effect="more calls of less bytes; overlap_comm doubles the memory of the bucket",
            disproof="the share of overlap stays as it is with the smaller bucket",
        ),
    )  # fmt: skip


def _cost_ns(case: Case) -> float:
    """What of them backward could hide."""
    waiting_ns, seen = case.waiting_ns(*GRADIENT_KINDS), case.seen(Backward)
    return min(waiting_ns, case.mean_of_ranks(seen, lambda one: one.room_ns)) if seen else waiting_ns
