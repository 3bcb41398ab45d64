"""R04: the run moves more bytes than its strategy needs."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said

LEAST_EXCESS = 0.1
LEAST_SHARE = 0.01
_TO_OWNERS = '"use_multi_rank_bucket_allreduce": false'


def find(case: Case) -> Iterator[Finding]:
    """Where more than theory needs is moved because of a setting (of gloo's ways nothing can be changed)."""
    volumes = case.result.volumes
    if volumes is None or case.framework != "DeepSpeed" or case.setting("zero_stage") not in (1, 2):
        return
    ratio = volumes.total.measured_per_theory
    scatters = case.setting("reduce_scatter") is not False
    if ratio is None or ratio < 1 + LEAST_EXCESS or (scatters and not case.setting("use_multi_rank_bucket_allreduce")):
        return
    # An all-reduce is a reduce-scatter, which is needed, and an all-gather, which is not.
    cost_ns = case.waiting_ns("all_reduce") / 2
    if cost_ns < LEAST_SHARE * case.step_ns:
        return
    seen = case.exposed("all_reduce")
    owners = ("" if scatters else '"reduce_scatter": true, ') + _TO_OWNERS
    measured, needed = volumes.total.measured_bytes or 0, volumes.total.theory_bytes or 0
    yield case.finding(
        "R04",
        f"{case.setting('strategy')} moves {ratio:.2f}x the bytes that it needs",
        [
            said(f"{measured / 1e6:,.3g} MB a rank and step instead of {needed / 1e6:,.3g}: {volumes.reasons[0]}"
                 if volumes.reasons else f"{measured / 1e6:,.3g} MB a rank and step instead of {needed / 1e6:,.3g}"),
            case.longest(seen, "all_reduce", "gradients are all-reduced here"),
        ],
        cost_ns,
        Turn(
            advice="reduce-scatter gradients instead of all-reducing them",
            knob="PyTorch FSDP2: fully_shard(block, reshard_after_forward=False) shards as ZeRO-2 does, and "
            f"reduce-scatters; {owners} reduces to one owner at a time",
            side_effect="another framework; or one reduce a rank and bucket, which small buckets make slow",
            disproof="the communication is overlapped: bytes that nobody waits for cost nothing",
        ),
    )  # fmt: skip
