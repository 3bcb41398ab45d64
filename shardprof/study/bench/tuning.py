"""What a strategy is set to where a study says "tuned": the knobs that the rules of docs/findings.md name for it.

They follow from the cell alone, so that nobody has to train first to tune:

- gradients in buckets of a tenth of the model, which fill while backward still runs (R05), in ZeRO beside it (overlap);
- FSDP gathers the next unit while one computes (R01, R02);
- gradients of accumulated micro-batches are communicated once a step (R21), for the memory of whole gradients.
"""

from __future__ import annotations

from shardprof.study.knobs import Knobs
from shardprof.study.shapes import MODELS

_BUCKETS = 10
_GRADIENT_BYTES = 4


def tuned(strategy: str, model: str, accumulation: int) -> Knobs:
    """The knobs of a cell; none are set where its strategy has nothing to tune."""
    parameters = MODELS[model].parameters
    once = True if accumulation > 1 else None
    if strategy == "ddp":
        return Knobs(bucket_mb=max(1, parameters * _GRADIENT_BYTES // _BUCKETS // 2**20), no_sync=once)
    if strategy.startswith("fsdp"):
        return Knobs(prefetch=1, no_sync=once)
    if strategy == "zero0":
        return Knobs()  # it all-reduces after backward, whatever its buckets
    return Knobs(reduce_bucket_elements=parameters // _BUCKETS, overlap=True)
