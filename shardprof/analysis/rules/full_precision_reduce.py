"""R28: gradients are reduced in fp32 though the model computes in half of it."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import GRADIENT_KINDS, Case, Turn, of_framework, said
from shardprof.analysis.rules.tiny_collectives import is_tiny
from shardprof.words import milliseconds

LEAST_SHARE = 0.03
_KNOBS = {
    "FSDP2": "MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)",
    "FSDP1": "MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)",
    "DDP": "model.register_comm_hook(None, default_hooks.bf16_compress_hook)",
    "DeepSpeed": '"communication_data_type": "bf16"',
}


def find(case: Case) -> Iterator[Finding]:
    """Where the parameters are in bf16 or fp16, gradients are reduced in fp32, and steps wait for that."""
    if case.setting("precision") not in ("bf16", "fp16") or case.setting("reduce_dtype") != "fp32":
        return
    kinds = [kind for kind in case.kinds(*GRADIENT_KINDS) if not is_tiny(kind, case)]
    moving_ns = case.waiting_ns(*(kind.kind for kind in kinds)) if kinds else 0
    if moving_ns < LEAST_SHARE * case.step_ns:
        return
    yield case.finding(
        "R28",
        f"Gradients are reduced in fp32, the model computes in {case.setting('precision')}",
        [said(f"reducing them takes {milliseconds(moving_ns)} a step, exposed; in half the bytes about half of that")],
        moving_ns / 2,
        Turn(
            advice="reduce gradients in the precision in which they are computed",
            knob=of_framework(_KNOBS, case),
            side_effect="sums over many ranks lose bits: compare the loss before relying on it",
            disproof="the time of the collectives stays as it is: then it is their number, not their bytes",
        ),
    )
