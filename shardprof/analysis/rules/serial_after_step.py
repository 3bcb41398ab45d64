"""R08: ZeRO-1 and ZeRO-2 gather the whole model after the optimizer's step, when nothing is left to compute."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.words import milliseconds

LEAST_SHARE = 0.05


def find(case: Case) -> Iterator[Finding]:
    """Where more than LEAST_SHARE of a step waits for that."""
    if case.setting("zero_stage") not in (1, 2) or not case.is_one_dimensional:
        return
    seen = case.exposed("all_gather", phase="optimizer")
    moving_ns = case.mean_of_ranks(seen, lambda one: one.moving_ns)
    if moving_ns <= LEAST_SHARE * case.step_ns:
        return
    size_bytes = case.number("gather_bytes") or case.number("parameter_bytes")
    size = f" of {size_bytes / 1e6:,.3g} MB" if size_bytes else ""
    yield case.finding(
        "R08",
        f"All parameters are gathered after the optimizer's step, {moving_ns / case.step_ns:.0%} of a step".replace(
            "%", " %"
        ),
        [
            said(f"{milliseconds(moving_ns)} of the all-gather{size} are exposed{case.beside_waiting(seen)}: "
                 f"{case.setting('strategy')} needs it before the next forward. allgather_bucket_size cuts nothing "
                 "where torch has all_gather_into_tensor"),
            case.longest(seen, "all_gather", "one of the longest"),
        ],
        case.cost_ns(seen, moving_ns),
        Turn(
            advice="gather the parameters block by block under forward, which moves the same bytes",
            knob='PyTorch FSDP2: fully_shard(block, reshard_after_forward=False); or "zero_optimization": {"stage": 3}',
            side_effect="another framework; both gather once a micro-batch, ZeRO-1 and ZeRO-2 once a step",
            disproof="forward waits for its all-gathers as long",
        ),
    )  # fmt: skip
