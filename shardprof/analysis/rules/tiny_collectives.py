"""R06: collectives are so small that starting them takes longer than moving their bytes."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding, KindSummary
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.words import milliseconds

SMALL_BYTES = 1_000_000
SURELY_SMALL_BYTES = 256_000
SLOW = 0.3
LEAST_CALLS = 8
LEAST_SHARE = 0.1
LEAST_OF_COMM = 0.3
_KNOBS = {
    "FSDP2": "fully_shard whole blocks, or several small modules together: fully_shard([a, b, c])",
    "FSDP1": "a coarser auto_wrap_policy: whole blocks, or size_based_auto_wrap_policy with a larger min_num_params",
    "DDP": "DistributedDataParallel(bucket_cap_mb=100)",
    "DeepSpeed": "deepspeed.utils.set_z3_leaf_modules(model, [Block]), a larger stage3_param_persistence_threshold",
}
_AFTER_THE_STEP = (
    '"zero_optimization": {"stage": 2}: after a step ZeRO-3 gathers each tensor below '
    "stage3_param_persistence_threshold by itself, ZeRO-2 all at once"
)


def find(case: Case) -> Iterator[Finding]:
    """For each kind that moves little a call in many calls, more slowly than others move more, and is waited for."""
    for kind in case.kinds("all_gather", "reduce_scatter", "all_reduce"):
        if is_tiny(kind, case):
            yield _finding(kind, case)


def is_tiny(kind: KindSummary, case: Case) -> bool:
    """Does a kind move little a call in many calls, more slowly than others move more, and is it waited for?"""
    calls = kind.calls / case.steps.count
    if not kind.payload_bytes or calls < LEAST_CALLS or kind.payload_bytes / kind.calls >= SMALL_BYTES:
        return False
    is_waited_for = case.waiting_ns(kind.kind) >= LEAST_SHARE * case.step_ns
    return is_waited_for and kind.comm_ns >= LEAST_OF_COMM * case.steps.comm_ns and _starts_slowly(kind, case)


def _starts_slowly(kind: KindSummary, case: Case) -> bool:
    """Is its bandwidth far below that of another kind in this run? Where that is not known: is it small anywhere?"""
    timed = [(row.kind, row.busbw_gbps, row.transfer_ns or 1) for row in case.result.collectives if row.busbw_gbps]
    own = [(busbw * time_ns, time_ns) for name, busbw, time_ns in timed if name == kind.kind]
    if own and len({name for name, _, _ in timed}) > 1:
        moved, took = map(sum, zip(*own, strict=True))
        return moved / took < SLOW * max(busbw for _, busbw, _ in timed)
    return (kind.payload_bytes or 0) / kind.calls < SURELY_SMALL_BYTES


def _is_after_the_step(kind: KindSummary, case: Case) -> bool:
    """Is it mostly what ZeRO-3 keeps on every rank that is gathered?"""
    after = case.exposed(kind.kind, phase="optimizer")
    most_ns = kind.exposed_ns / case.steps.count / 2
    return case.setting("zero_stage") == 3 and case.mean_of_ranks(after, lambda one: one.exposed_ns) > most_ns


def _finding(kind: KindSummary, case: Case) -> Finding:
    calls, name = kind.calls / case.steps.count, kind.kind.replace("_", "-")
    size_kb = (kind.payload_bytes or 0) / kind.calls / 1e3
    seen = case.exposed(kind.kind)
    return case.finding(
        "R06",
        f"{calls:,.0f} {name}s a step of {size_kb:,.0f} kB each: their start takes the time, not their bytes",
        [
            said(f"{name}s take {milliseconds(kind.comm_ns / case.steps.count)} a step, of which "
                 f"{milliseconds(case.moving_ns(kind.kind))} are exposed{case.beside_waiting(seen)}; below 1 MB a call "
                 "no network reaches its bandwidth"),
            case.longest(seen, kind.kind, "one of the longest"),
        ],
        case.waiting_ns(kind.kind),
        Turn(
            advice="move the same bytes in fewer calls",
            knob=_AFTER_THE_STEP if _is_after_the_step(kind, case) else of_framework(_KNOBS, case),
            side_effect="more parameters are gathered at once, which takes memory; less can overlap with compute",
            disproof="the bus bandwidth in the report is near the network's all the same",
        ),
    )  # fmt: skip
