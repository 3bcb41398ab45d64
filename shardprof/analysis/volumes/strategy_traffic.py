"""What a strategy needs to communicate, and what its implementation is known to communicate as it is set.

Both are bytes that each rank sends in a step, by kind. `theory` counts parameters and gradients once for each time that
the algorithm needs them on another rank; `expected` follows the code of the frameworks: padding, what stays gathered,
which collective carries the gradients. docs/definitions.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError
from shardprof.trace.classes import OTHER_COMM, wire_factor

Traffic = dict[str, float]
"""Bytes by kind of communication."""

_UNFOLLOWED = {"quantized_weights": 0, "quantized_gradients": 0, "has_moe_layers": 0, "hpz_partition_size": 1,
               "mics_shard_size": 1}  # fmt: skip
"""Variants of ZeRO whose traffic is not followed here, with the values that mean "not used"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How often a step gathers the model's parameters for a micro-batch, and how often it reduces its gradients."""

    micro_batches: int
    reductions: int


def theory(settings: TrainingSettings, micro_batches: int) -> Traffic:
    """What the strategy needs. Gradients that every rank keeps whole are accumulated there and reduced once a step.

    Raises UnknownError.
    """
    shards, gradients = settings.shards, settings.number("gradient_bytes")
    if settings.is_replicated:
        return {"all_reduce": gradients * wire_factor("all_reduce", shards)}
    parameters = settings.number("parameter_bytes")
    gathered, scattered = (wire_factor(kind, shards) for kind in ("all_gather", "reduce_scatter"))
    if settings.is_partly_sharded:
        reductions = micro_batches if settings.zero_stage == 2 else 1
        return {"all_gather": parameters * gathered, "reduce_scatter": reductions * gradients * scattered}
    if settings.gathers_again:
        gathered += wire_factor("all_gather", settings.get("gather_again_ranks") or shards)
    moved = {
        "all_gather": micro_batches * parameters * gathered,
        "reduce_scatter": micro_batches * gradients * scattered,
    }
    if settings.replicas > 1:
        moved["all_reduce"] = gradients / shards * wire_factor("all_reduce", settings.replicas)
    return moved


def expected(settings: TrainingSettings, passes: Passes, scattered_as: str) -> Traffic:
    """What this implementation and configuration is known to move, where a reduce-scatter is sent as `scattered_as`.

    Raises UnknownError, as for variants of ZeRO that quantise or that gather within a part of the ranks.
    """
    if settings.zero_stage is None:
        return _torch(settings, passes, scattered_as)
    return _deepspeed(settings, settings.zero_stage, passes, scattered_as)


def _torch(settings: TrainingSettings, passes: Passes, scattered_as: str) -> Traffic:
    shards = settings.shards
    reduced = passes.reductions * settings.number("reduce_bytes")
    if settings.is_replicated:
        return {"all_reduce": reduced * wire_factor("all_reduce", shards)}
    gathered = settings.number("gather_bytes") * wire_factor("all_gather", shards)
    again_in = settings.get("gather_again_ranks") or shards
    gathered += settings.number("gather_again_bytes") * wire_factor("all_gather", again_in)
    moved = {
        "all_gather": passes.micro_batches * gathered,
        "reduce_scatter": reduced * wire_factor(scattered_as, shards),
    }
    if settings.replicas > 1:
        moved["all_reduce"] = reduced / shards * wire_factor("all_reduce", settings.replicas)
    return moved


def _deepspeed(settings: TrainingSettings, stage: int, passes: Passes, scattered_as: str) -> Traffic:
    for name, unused in _UNFOLLOWED.items():
        if (settings.get(name) or unused) > unused:
            raise UnknownError(name)
    shards, kind = settings.shards, gradients_travel_by(settings)
    sent_as = scattered_as if kind == "reduce_scatter" else kind
    gathered = float(settings.get("gather_bytes") or 0)
    if stage == 3:
        again = gathered_again_bytes(settings)
        gathered = passes.micro_batches * (gathered + again) + settings.number("persistent_bytes")
    moved = {kind: passes.reductions * settings.number("reduce_bytes") * wire_factor(sent_as, shards)}
    if gathered:
        moved["all_gather"] = gathered * wire_factor("all_gather", shards)
    return moved


def gradients_travel_by(settings: TrainingSettings) -> str:
    """The kind of communication that reduces DeepSpeed's gradients. Raises UnknownError."""
    scatters = settings.number("reduce_scatter")
    if settings.zero_stage == 3:
        return "reduce_scatter" if scatters or not settings.number("contiguous_gradients") else "all_reduce"
    if settings.zero_stage == 0 or not scatters or settings.number("use_multi_rank_bucket_allreduce"):
        return "all_reduce"
    return OTHER_COMM  # a reduce to each owner


def gathered_again_bytes(settings: TrainingSettings) -> float:
    """What ZeRO-3 gathers a second time, for backward, to within a parameter.

    A parameter stays gathered where fewer than `stage3_max_reuse_distance` elements are used between its forward and
    its backward. These are the parameters after it, twice: so the last ones stay, half that many elements.

    Raises UnknownError, also where prefetching decides: it keeps what it has passed, which depends on every module.
    """
    element_bytes = settings.number("parameter_bytes") / (settings.number("parameters") or 1)
    again_bytes = settings.number("gather_bytes") - settings.number("stage3_max_reuse_distance") / 2 * element_bytes
    if again_bytes <= 0:
        return 0.0
    if settings.number("stage3_prefetch_bucket_elements") and settings.number("stage3_max_live_parameters"):
        raise UnknownError("stage3_prefetch_bucket_elements")
    return again_bytes
