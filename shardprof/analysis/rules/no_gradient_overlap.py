"""R05: gradients are communicated after backward instead of under it."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import GRADIENT_KINDS, Case, Turn, said

MOST_OVERLAP = 0.1
LEAST_SHARE = 0.03
PARTS = 4
"""A bucket that holds more than one such part of all gradients is full when backward is nearly over."""


def find(case: Case) -> Iterator[Finding]:
    """With DeepSpeed, where its bucket never fills during backward, or nothing may overlap."""
    kinds = case.kinds(*GRADIENT_KINDS)
    comm_ns, exposed_ns = sum(kind.comm_ns for kind in kinds), sum(kind.exposed_ns for kind in kinds)
    overlapped_ns = sum(kind.overlapped_ns for kind in kinds)
    parameters, bucket = case.number("parameters"), case.number("reduce_bucket_elements")
    # Without a GPU DeepSpeed waits inside each call, whatever the bucket.
    if case.framework != "DeepSpeed" or not case.on_gpu or not comm_ns or parameters is None or bucket is None:
        return
    is_late = bucket > parameters / PARTS or not case.setting("overlap_comm")
    hardly_any_ns = LEAST_SHARE * case.steps.count * case.step_ns
    if not is_late or overlapped_ns > MOST_OVERLAP * comm_ns or exposed_ns < hardly_any_ns:
        return
    seen = case.exposed(*GRADIENT_KINDS)
    smaller = max(round(parameters / 10), 1)
    yield case.finding(
        "R05",
        "Gradients are communicated after backward, which could hide that",
        [
            said(f"{overlapped_ns / comm_ns:.0%} of gradient communication is overlapped; a bucket of {bucket:,.0f} "
                 f"elements holds all {parameters:,.0f} gradients, and is sent when it is full".replace("%", " %")),
            case.longest(seen, max(kinds, key=lambda kind: kind.exposed_ns).kind, "it is exposed for longest here"),
        ],
        case.waiting_ns(*GRADIENT_KINDS),
        Turn(
            advice="let buckets fill during backward, and communicate them beside it",
            knob=f'"zero_optimization": {{"overlap_comm": true, "reduce_bucket_size": {smaller}}}'
            if case.setting("zero_stage") else "PyTorch DDP, which sends buckets of 25 MB during backward",
            side_effect="more calls of less bytes; overlap_comm doubles the memory of the bucket",
            disproof="the share of overlap stays as it is with the smaller bucket",
        ),
    )  # fmt: skip
