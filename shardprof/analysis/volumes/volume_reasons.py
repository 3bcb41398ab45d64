"""Why a training moves more, or less, than its strategy needs: in the words of the field, with the knob behind it."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Volume
from shardprof.analysis.volumes.strategy_traffic import Passes, gradients_travel_by
from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError

NOTABLE = 0.02
"""What differs by no more than this part is taken for the same."""


def reasons(settings: TrainingSettings, total: Volume, passes: Passes, scattered_as: str) -> tuple[str, ...]:
    """What makes a kind's volume another one than the strategy's, and whether something unknown is in it too.

    Told of each kind, since one that is larger and one that is smaller may add up to what the strategy needs.
    """
    told = [*_more(settings, passes, scattered_as), *_less(settings, passes)]
    of_expected = total.measured_per_expected
    if of_expected is not None and abs(of_expected - 1) > NOTABLE:
        told.append(f"that is {of_expected:.2f}x what this configuration is known to move")
    return tuple(told)


def _more(settings: TrainingSettings, passes: Passes, scattered_as: str) -> Iterator[str]:
    if settings.zero_stage:
        yield from _gradients_of_zero(settings)
    elif passes.reductions > 1 and settings.is_replicated:
        yield f"gradients are reduced after each of {passes.reductions} micro-batches (no_sync)"
    elif passes.reductions > 1 and settings.replicas > 1:
        yield f"shards are all-reduced after each of {passes.reductions} micro-batches (set_requires_all_reduce)"
    padding = (settings.get("gather_bytes") or 0) / (settings.get("parameter_bytes") or 1) - 1
    if padding > NOTABLE:
        yield f"padding to {settings.shards} ranks makes the parameters {100 * padding:.0f} % larger"
    if scattered_as == "all_reduce":
        yield "gloo sends a reduce-scatter as an all-reduce"


def _gradients_of_zero(settings: TrainingSettings) -> Iterator[str]:
    try:
        kind = gradients_travel_by(settings)
    except UnknownError:
        return
    if kind == "all_reduce":
        knob = "use_multi_rank_bucket_allreduce" if settings.get("reduce_scatter") else "reduce_scatter: false"
        yield f"every gradient bucket is all-reduced, though each rank needs its own part only ({knob})"
    elif settings.is_partly_sharded:
        yield "gradients are reduced to one owner after the other (use_multi_rank_bucket_allreduce: false)"


def _less(settings: TrainingSettings, passes: Passes) -> Iterator[str]:
    if passes.reductions < passes.micro_batches:
        yield f"gradients are reduced in {passes.reductions} of {passes.micro_batches} micro-batches (no_sync)"
    if settings.zero_stage != 3:
        return
    persistent = (settings.get("persistent_parameters") or 0) / (settings.get("parameters") or 1)
    if persistent > NOTABLE:
        yield f"{100 * persistent:.0f} % of the parameters stay on every rank (stage3_param_persistence_threshold)"
    if settings.get("gather_bytes") and settings.get("stage3_max_reuse_distance"):
        yield "parameters stay gathered from forward to backward (stage3_max_reuse_distance)"
