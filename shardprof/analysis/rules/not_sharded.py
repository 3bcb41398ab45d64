"""R27: ZeRO-3 is asked for, and keeps whole parameters on every rank."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said

LEAST_SHARE = 0.05


def find(case: Case) -> Iterator[Finding]:
    """Where more than LEAST_SHARE of the elements are in tensors too small to be sharded."""
    persistent, parameters = case.number("persistent_parameters"), case.number("parameters")
    if case.setting("zero_stage") != 3 or not parameters or persistent is None:
        return
    share = persistent / parameters
    if share <= LEAST_SHARE:
        return
    threshold = case.number("stage3_param_persistence_threshold") or 0
    yield case.finding(
        "R27",
        f"ZeRO-3 keeps {share:.0%} of the parameters on every rank".replace("%", " %"),
        [said(f"{persistent:,.0f} of {parameters:,.0f} elements are in tensors of fewer than {threshold:,.0f}")],
        None,
        Turn(
            advice="shard small tensors too if memory is what ZeRO-3 is for; else use a stage that communicates less",
            knob='"zero_optimization": {"stage3_param_persistence_threshold": 0}, or "stage": 2',
            side_effect="each small tensor is gathered by itself: more, smaller all-gathers",
            disproof="the memory of parameters a rank is near 1/N of the model already",
        ),
    )
