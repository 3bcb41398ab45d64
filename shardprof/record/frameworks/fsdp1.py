"""PyTorch FSDP1, `FullyShardedDataParallel`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from shardprof.record.frameworks._common import dtype_name, dtype_of, forward_of
from shardprof.record.rank.patches import watch

if TYPE_CHECKING:
    from shardprof.record.rank.agent import Agent

MODULE = "torch.distributed.fsdp.fully_sharded_data_parallel"

STRATEGIES = {
    "FULL_SHARD": "full shard",
    "SHARD_GRAD_OP": "SHARD_GRAD_OP",
    "NO_SHARD": "NO_SHARD",
    "HYBRID_SHARD": "hybrid shard",
    "_HYBRID_SHARD_ZERO2": "hybrid SHARD_GRAD_OP",
}


def install(agent: Agent) -> None:
    """Time the root's forward."""
    module = importlib.import_module(MODULE)
    watch(module.FullyShardedDataParallel, "forward", **forward_of(agent, "FSDP1", describe))


def describe(module: Any) -> dict[str, Any]:
    """The settings of an FSDP1 module."""
    shards = dist.get_world_size(module.process_group)
    replicas = dist.get_world_size() // shards
    flat = [unit._handle.flat_param for unit in module.fsdp_modules(module) if unit._handle is not None]
    precision = module.mixed_precision.param_dtype
    return {
        "strategy": STRATEGIES.get(module.sharding_strategy.name, module.sharding_strategy.name),
        "mesh": [replicas, shards] if replicas > 1 else [shards],
        "precision": dtype_name(precision) or dtype_of(flat),
        "parameters": sum(parameter._unpadded_unsharded_size.numel() for parameter in flat),
        "units": len(flat),
        "cpu_offload": bool(module.cpu_offload.offload_params),
    }
