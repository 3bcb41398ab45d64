"""R01, R02: steps wait for parameters to be gathered, in forward or in backward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._exposed import Exposed
from shardprof.analysis.rules._prefetch_room import Room, observe
from shardprof.analysis.rules.giant_unit import giants
from shardprof.analysis.rules.tiny_collectives import is_tiny
from shardprof.words import milliseconds

__all__ = ["find", "observe"]

LEAST_SHARE = 0.1
_FORWARD = {
    "FSDP2": "block.set_modules_to_forward_prefetch([next_block, the_one_after]) for each block",
    "FSDP1": "FullyShardedDataParallel(forward_prefetch=True)",
}
_BACKWARD = {
    "FSDP2": "fully_shard(block, reshard_after_forward=False)",
    "FSDP1": "ShardingStrategy.SHARD_GRAD_OP (_HYBRID_SHARD_ZERO2 instead of HYBRID_SHARD)",
}
_BESIDE_GLOO = {
    "FSDP2": "model._set_unshard_async_op(True), without which FSDP2 waits inside each of gloo's all-gathers",
    "FSDP1": "FSDP2 with model._set_unshard_async_op(True): FSDP1 waits inside each of gloo's all-gathers",
}


def find(case: Case) -> Iterator[Finding]:
    """Where more than LEAST_SHARE of a step waits for all-gathers that a setting hides or spares, and these are neither
    tiny nor a single one."""
    is_told = any(is_tiny(kind, case) for kind in case.kinds("all_gather")) or giants(case)
    if is_told or not case.is_one_dimensional:
        return
    for rule, phase, turned in (("R01", "forward", _prefetched), ("R02", "backward", _kept)):
        seen, turn = case.exposed("all_gather", phase=phase), turned(case)
        if seen and turn is not None:
            yield from _finding(rule, phase, seen, turn, case)


def _finding(rule: str, phase: str, seen: Sequence[Exposed], turn: Turn, case: Case) -> Iterator[Finding]:
    moving_ns = case.mean_of_ranks(seen, lambda one: one.moving_ns)
    room_ns = case.mean_of_ranks([room for room in case.seen(Room) if room.phase == phase], lambda room: room.room_ns)
    won_ns, cost_ns = moving_ns, case.cost_ns(seen, moving_ns)
    if phase == "forward":  # they can be hidden at best
        won_ns, cost_ns = min(won_ns, room_ns), min(cost_ns, room_ns)
    if won_ns <= LEAST_SHARE * case.step_ns:
        return
    calls = max(one.calls for one in seen)
    yield case.finding(
        rule,
        f"Steps wait for parameters in {phase}, {moving_ns / case.step_ns:.0%} of their time".replace("%", " %"),
        [
            said(f"{milliseconds(moving_ns)} of the {calls:,.0f} all-gathers of {phase} in a step are exposed"
                 f"{case.beside_waiting(seen)}, and {milliseconds(room_ns)} of compute between them have no "
                 "communication beside them"),
            case.longest(seen, "all_gather", "one of the longest"),
        ],
        cost_ns,
        turn,
    )  # fmt: skip


def _prefetched(case: Case) -> Turn | None:
    """How forward's all-gathers are launched earlier; None where they are as early as they can be, or not known."""
    return _turn(
        case,
        _zero3_prefetch(case) if case.setting("zero_stage") == 3 else _of_fsdp(_FORWARD, case),
        "and",
        advice="launch the all-gather of the next units before a unit computes",
        side_effect="the parameters of the units ahead are in memory too",
        disproof="the all-gathers begin earlier and end as late: then their bytes bound the step; use larger batches",
    )


def _kept(case: Case) -> Turn | None:
    """How backward finds its parameters gathered; None where they stay so already, or it is not known."""
    kept_bytes = case.number("gather_again_bytes") or case.number("gather_bytes")
    size = f"{kept_bytes / 1e6:,.3g} MB of " if kept_bytes else ""
    return _turn(
        case,
        _zero3_reuse(case) if case.setting("zero_stage") == 3 else _of_fsdp(_BACKWARD, case),
        "or",
        advice="keep parameters gathered from forward to backward",
        side_effect=f"{size}whole parameters stay on each rank while activations take most memory",
        disproof="backward then waits as long for reduce-scatters: it was the network that was busy",
    )


def _of_fsdp(knobs: Mapping[str, str], case: Case) -> str | None:
    """The knob of the FSDP at hand, of both where the framework is not known."""
    return knobs.get(case.framework) if case.framework else of_framework(knobs, case)


def _turn(case: Case, knob: str | None, joint: str, *, advice: str, side_effect: str, disproof: str) -> Turn | None:
    """The knob and, on CPUs, what FSDP needs there: after the `joint`, "and" or "or"."""
    if knob is None:
        return None
    beside = None if case.on_gpu else _BESIDE_GLOO.get(case.framework)
    knob = f"{knob}; {joint} {beside}" if beside else knob
    return Turn(advice=advice, knob=knob, side_effect=side_effect, disproof=disproof)


def _zero3_prefetch(case: Case) -> str | None:
    bucket, parameters = case.number("stage3_prefetch_bucket_elements"), case.number("parameters")
    if bucket is None or parameters is None or bucket >= parameters:
        return None
    larger = round(min(max(2 * bucket, parameters / 10), parameters))
    return f'"zero_optimization": {{"overlap_comm": true, "stage3_prefetch_bucket_size": {larger}}}'


def _zero3_reuse(case: Case) -> str | None:
    """A parameter is kept where fewer elements than that distance are used until backward needs it: twice the model."""
    reuse, live = case.number("stage3_max_reuse_distance"), case.number("stage3_max_live_parameters")
    parameters = case.number("parameters")
    if reuse is None or live is None or parameters is None or (reuse > 2 * parameters and live > parameters):
        return None
    reuse, live = round(max(reuse, 2 * parameters + 1)), round(max(live, parameters + 1))
    return f'"zero_optimization": {{"stage3_max_reuse_distance": {reuse}, "stage3_max_live_parameters": {live}}}'
