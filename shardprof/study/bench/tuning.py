"""What a strategy is set to where a study says "tuned": the knobs that the rules of docs/findings.md name for it.

They follow from the cell alone, so that nobody has to train first to tune:

- gradients in buckets of a tenth of the model, which fill while backward still runs (R05), in ZeRO beside it (overlap)
  and of 5e7 elements at most, for their memory;
- FSDP gathers the next unit while one computes (R01, R02);
- gradients of accumulated micro-batches are communicated once a step (R21), for the memory of whole gradients.
"""

from __future__ import annotations

from shardprof.study.knobs import Knobs

_BUCKETS = 10
_MOST_ELEMENTS = 50_000_000
_GRADIENT_BYTES = 4


def tuned(strategy: str, parameters: int, accumulation: int) -> Knobs:
    """The knobs for a model of so many parameters; none are set where its strategy has nothing to tune."""
    once = True if accumulation > 1 else None
    if strategy == "ddp":
        return Knobs(bucket_mb=max(1, parameters * _GRADIENT_BYTES // _BUCKETS // 2**20), no_sync=once)
    if strategy.startswith("fsdp"):
        return Knobs(prefetch=1, no_sync=once)
    if strategy == "zero0":
        return Knobs()  # it all-reduces after backward, whatever its buckets
    return Knobs(reduce_bucket_elements=max(1, min(parameters // _BUCKETS, _MOST_ELEMENTS)), overlap=True)
