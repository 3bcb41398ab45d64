"""The memory that a strategy's model states take on each rank, part by part: parameters, gradients, optimizer, buckets.

By the strategies' formulas, while the optimizer steps: what is freed before and after is counted, activations and
parameters gathered for a moment are not. docs/definitions.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable

from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError

PARTS = ("parameters", "gradients", "optimizer", "buckets")
_MASTER_BYTES = 4


def expected_states(settings: TrainingSettings) -> dict[str, int | None]:
    """Bytes by part of PARTS; None where a setting that it depends on is not known."""
    formulas = (_parameters, _gradients, _optimizer, _buckets)
    return {part: _known(formula, settings) for part, formula in zip(PARTS, formulas, strict=True)}


def _known(formula: Callable[[TrainingSettings], float], settings: TrainingSettings) -> int | None:
    try:
        return round(formula(settings))
    except UnknownError:
        return None


def _parameters(settings: TrainingSettings) -> float:
    if settings.is_replicated or settings.is_partly_sharded:
        return settings.stored_bytes
    if settings.zero_stage == 3:
        sharded = (settings.number("gather_bytes") + settings.number("persistent_bytes")) / settings.shards
        if settings.shards == 1:
            return sharded  # a shard is the whole tensor, persistent or not
        return sharded + settings.number("persistent_parameters") * settings.stored_bytes_an_element
    return settings.stored_bytes * _padding(settings) / settings.shards


def _gradients(settings: TrainingSettings) -> float:
    """In the parameters' precision: what is reduced in another one is cast back."""
    whole = settings.trained_elements * settings.stored_bytes_an_element
    return whole / _sharded_among(settings) * _padding(settings)


def _optimizer(settings: TrainingSettings) -> float:
    """Its states and, where it updates a copy in higher precision, that copy."""
    element_bytes = settings.number("optimizer_bytes_per_element")
    if settings.number("master_weights"):
        element_bytes += _MASTER_BYTES
    return settings.trained_elements * element_bytes / _sharded_among(settings) * _padding(settings)


def _buckets(settings: TrainingSettings) -> float:
    """Buffers that gradients are reduced in; of ZeRO-1 and ZeRO-2 they exist during backward only."""
    if settings.zero_stage is None:
        is_copied = settings.strategy == "DDP" and not settings.number("gradient_as_bucket_view")
        return settings.number("gradient_bytes") if is_copied else 0
    if settings.zero_stage == 0 or not settings.number("contiguous_gradients"):
        return 0
    element_bytes = settings.number("gradient_bytes") / (settings.trained_elements or 1)
    number = 2 if settings.is_partly_sharded and settings.number("overlap_comm") else 1
    return number * settings.number("reduce_bucket_elements") * element_bytes


def _sharded_among(settings: TrainingSettings) -> int:
    return 1 if settings.is_replicated else settings.shards


def _padding(settings: TrainingSettings) -> float:
    """How much larger FSDP's shards are than the parameters: they are padded to the number of ranks."""
    if settings.is_replicated or settings.zero_stage is not None:
        return 1.0
    return settings.number("gather_bytes") / (settings.number("parameter_bytes") or 1)
