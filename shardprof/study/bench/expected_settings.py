"""What the framework of a cell would tell of it once it runs, in the words of docs/run-format.md: so that the formulas
for what runs move and hold hold for trainings that never ran."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from shardprof.analysis.volumes.training_settings import TrainingSettings
from shardprof.study.bench.cells import Cell
from shardprof.study.knobs import Knobs
from shardprof.study.model_sizes import ELEMENT_BYTES, ModelFacts, Shape

ADAMW_BYTES_PER_ELEMENT = 8

REDUCE_BUCKET_ELEMENTS = 500_000_000
PREFETCH_BUCKET_ELEMENTS = 50_000_000
PERSISTENCE_THRESHOLD = 100_000
MAX_LIVE_PARAMETERS = MAX_REUSE_DISTANCE = 1_000_000_000
"""DeepSpeed's, as it is shipped: deepspeed/runtime/zero/config.py of 0.19."""

_FSDP_NAMES = {
    "fsdp1-full": "full shard",
    "fsdp1-grad-op": "SHARD_GRAD_OP",
    "fsdp1-hybrid": "hybrid shard",
    "fsdp2-full": "full shard",
    "fsdp2-grad-op": "reshard_after_forward=False",
    "fsdp2-hybrid": "hybrid shard",
}


def zero_stage(strategy: str) -> int | None:
    """Of DeepSpeed's strategies."""
    return int(strategy.removeprefix("zero")) if strategy.startswith("zero") else None


def expected_settings(cell: Cell, knobs: Knobs | None, facts: ModelFacts) -> TrainingSettings:
    """The settings of a cell with AdamW; of a model of equal blocks."""
    told, stage = knobs or Knobs(), zero_stage(cell.strategy)
    if cell.strategy == "ddp":
        return TrainingSettings(_ddp(cell, facts))
    if stage is None:
        return TrainingSettings(_fsdp(cell, told, facts))
    return TrainingSettings(_zero(cell, told, facts, stage))


def _ddp(cell: Cell, facts: ModelFacts) -> dict[str, Any]:
    """Autocast computes in lower precision: weights and gradients stay in fp32."""
    return {
        **_trained("DDP", facts, stored="fp32", moved="fp32"),
        "mesh": [cell.ranks],
        "gradient_as_bucket_view": False,
    }


def _fsdp(cell: Cell, knobs: Knobs, facts: ModelFacts) -> dict[str, Any]:
    hybrid, width = cell.strategy.endswith("-hybrid"), ELEMENT_BYTES[cell.precision]
    shards = cell.shard_size if hybrid else cell.ranks
    pad = _padded_by_tensor if cell.strategy.startswith("fsdp2") else _padded_by_unit
    block, root = pad(facts.block_shapes, shards), pad(facts.root_shapes, shards)
    if knobs.wrap == "whole":
        block, root = 0, pad(facts.shapes, shards)
    frees = _FSDP_NAMES[cell.strategy] in ("full shard", "hybrid shard")
    alone = shards == 1 and cell.strategy.startswith("fsdp1")  # it changes the strategy itself, with a warning
    return {
        **_trained("NO_SHARD" if alone else _FSDP_NAMES[cell.strategy], facts, stored="fp32", moved=cell.precision),
        "mesh": [cell.ranks // shards, shards] if hybrid else [shards],
        "gather_bytes": (root + facts.blocks * block) * width,
        "gather_again_bytes": facts.blocks * block * width if frees else 0,
        "reduce_bytes": (root + facts.blocks * block) * width,
    }


def _padded_by_tensor(shapes: Iterable[Shape], shards: int) -> int:
    """FSDP2 fills up the first dimension of each tensor."""
    return sum(-(-shape[0] // shards) * shards * math.prod(shape[1:]) for shape in shapes)


def _padded_by_unit(shapes: Iterable[Shape], shards: int) -> int:
    """FSDP1 fills up all of a unit's tensors together."""
    return -(-sum(map(math.prod, shapes)) // shards) * shards


def _zero(cell: Cell, knobs: Knobs, facts: ModelFacts, stage: int) -> dict[str, Any]:
    width = ELEMENT_BYTES[cell.precision]
    told = {
        **_trained(f"ZeRO-{stage}", facts, stored=cell.precision, moved=cell.precision),
        "zero_stage": stage,
        "mesh": [cell.ranks],
        "gradient_accumulation_steps": cell.accumulation,
        "master_weights": stage > 0 or cell.precision != "fp32",  # in fp32 too it updates copies
        "reduce_bucket_elements": knobs.reduce_bucket_elements or REDUCE_BUCKET_ELEMENTS,
        "overlap_comm": stage == 3 if knobs.overlap is None else knobs.overlap,
        "use_multi_rank_bucket_allreduce": True,
        "reduce_scatter": True,
        "contiguous_gradients": True,
        "stage3_max_live_parameters": MAX_LIVE_PARAMETERS,
        "stage3_max_reuse_distance": MAX_REUSE_DISTANCE,
        "stage3_prefetch_bucket_elements": _or(knobs.prefetch_bucket_elements, PREFETCH_BUCKET_ELEMENTS),
    }
    if stage in (1, 2):
        return told | {"gather_bytes": facts.parameters * width}
    return told | _partitioned(cell, knobs, facts) if stage == 3 else told


def _partitioned(cell: Cell, knobs: Knobs, facts: ModelFacts) -> dict[str, Any]:
    """ZeRO-3 pads each tensor to the ranks, and leaves small ones on all of them beside their shards."""
    width = ELEMENT_BYTES[cell.precision]
    threshold = _or(knobs.persistence_threshold, PERSISTENCE_THRESHOLD)
    sizes = [math.prod(shape) for shape in facts.shapes]
    padded = {True: 0, False: 0}
    for size in sizes:
        padded[size <= threshold] += -(-size // cell.ranks) * cell.ranks
    return {
        "persistent_parameters": sum(size for size in sizes if size <= threshold),
        "persistent_bytes": padded[True] * width,
        "gather_bytes": padded[False] * width,
        "reduce_bytes": sum(padded.values()) * width,
    }


def _trained(strategy: str, facts: ModelFacts, *, stored: str, moved: str) -> dict[str, Any]:
    """What every framework tells of parameters that are kept in one precision and moved in another."""
    moved_bytes = facts.parameters * ELEMENT_BYTES[moved]
    return {
        "strategy": strategy,
        "parameters": facts.parameters,
        "root_parameters": facts.root_parameters,
        "elements_by_dtype": {stored: facts.parameters},
        "reduce_dtype": moved,
        "parameter_bytes": moved_bytes,
        "gradient_bytes": moved_bytes,
        "reduce_bytes": moved_bytes,
        "optimizer_bytes_per_element": ADAMW_BYTES_PER_ELEMENT,
        "master_weights": False,
    }


def _or(told: int | None, shipped: int) -> int:
    return shipped if told is None else told
