"""R21: gradients are communicated after every micro-batch of an accumulated step."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import GRADIENT_KINDS, Case, Turn, of_framework, said
from shardprof.words import milliseconds

LEAST_SHARE = 0.01
_KNOBS = {
    "FSDP2": "model.set_requires_gradient_sync(False) but for the last micro-batch",
    "FSDP1": "with model.no_sync(): but for the last micro-batch",
    "DDP": "with model.no_sync(): but for the last micro-batch",
    "DeepSpeed": '"zero_optimization": {"stage": 1}, which reduces once a step',
}


def find(case: Case) -> Iterator[Finding]:
    """Where a step has several micro-batches, and gradients are reduced after more than one of them."""
    volumes = case.result.volumes
    batches, reductions = (volumes.micro_batches, volumes.reductions) if volumes else (None, None)
    if not batches or not reductions or batches < 2 or reductions < 2 or case.setting("zero_stage") in (0, 1):
        return
    cost_ns = case.waiting_ns(*GRADIENT_KINDS) * (1 - 1 / reductions)
    if cost_ns < LEAST_SHARE * case.step_ns:
        return
    gradients_ns = case.moving_ns(*GRADIENT_KINDS)
    yield case.finding(
        "R21",
        f"Gradients are communicated {reductions} times a step, once would do",
        [
            said(
                f"a step has {batches} micro-batches; what is reduced takes {milliseconds(gradients_ns)} of it, exposed"
            )
        ],
        cost_ns,
        Turn(
            advice="accumulate gradients on each rank and reduce them with the last micro-batch",
            knob=of_framework(_KNOBS, case),
            side_effect="whole gradients stay on every rank between micro-batches: the memory of a gradient an element",
            disproof="the memory for whole gradients is not there",
        ),
    )
