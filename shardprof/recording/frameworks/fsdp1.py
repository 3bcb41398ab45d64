"""PyTorch FSDP1, `FullyShardedDataParallel`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from shardprof.recording.frameworks._common import (
    dtype_name,
    dtype_of,
    elements_by_dtype,
    forward_of,
    names_of,
    part,
    told,
)
from shardprof.recording.frameworks._model_states import follow_optimizers, model_states, optimizers_of
from shardprof.recording.rank.patches import watch

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent

MODULE = "torch.distributed.fsdp.fully_sharded_data_parallel"

STRATEGIES = {
    "FULL_SHARD": "full shard",
    "SHARD_GRAD_OP": "SHARD_GRAD_OP",
    "NO_SHARD": "NO_SHARD",
    "HYBRID_SHARD": "hybrid shard",
    "_HYBRID_SHARD_ZERO2": "hybrid SHARD_GRAD_OP",
}
_FREED_AFTER_FORWARD = ("FULL_SHARD", "HYBRID_SHARD")


def install(agent: Agent) -> None:
    """Time the root's forward."""
    follow_optimizers()
    module = importlib.import_module(MODULE)
    watch(module.FullyShardedDataParallel, "forward", **forward_of(agent, "FSDP1", describe))


def describe(module: Any) -> dict[str, Any]:
    """The settings of an FSDP1 module."""
    shards = dist.get_world_size(module.process_group)
    replicas = dist.get_world_size() // shards
    units = [unit for unit in module.fsdp_modules(module) if unit._handle is not None]
    flat = [unit._handle.flat_param for unit in units]
    precision = module.mixed_precision.param_dtype
    parameters = list(module.parameters())
    return {
        "strategy": STRATEGIES.get(module.sharding_strategy.name, module.sharding_strategy.name),
        "mesh": [replicas, shards] if replicas > 1 else [shards],
        "precision": dtype_name(precision) or dtype_of(flat),
        "parameters": sum(sum(unit._handle.flat_param._numels) for unit in units),
        "units": len(units),
        **part(lambda: _volumes(module, units)),
        **part(lambda: model_states([*parameters, *flat], optimizers_of(parameters))),
    }


def _volumes(root: Any, units: list[Any]) -> dict[str, Any]:
    """What the bytes that are gathered and reduced depend on."""
    handles = [unit._handle for unit in units]
    again = [unit._handle for unit in units if _frees(unit)]
    trained = [handle for handle in handles if handle.flat_param.requires_grad]
    return told(
        root_parameters=lambda: _elements(root._handle) if root._handle is not None else 0,
        elements_by_dtype=lambda: elements_by_dtype((h.flat_param.dtype, _elements(h)) for h in handles),
        units_gathered_again=lambda: len(again),
        units_reduced=lambda: len(trained),
        param_dtype=lambda: names_of(handle._fwd_bwd_param_dtype for handle in handles),
        reduce_dtype=lambda: names_of(handle._reduce_dtype for handle in trained),
        parameter_bytes=lambda: sum(_elements(h) * h._fwd_bwd_param_dtype.itemsize for h in handles),
        gradient_bytes=lambda: sum(_elements(h) * h._reduce_dtype.itemsize for h in trained),
        gather_bytes=lambda: _gathered(handles),
        gather_again_bytes=lambda: _gathered(again),
        reduce_bytes=lambda: _reduced(root, trained),
        cpu_offload=lambda: bool(root.cpu_offload.offload_params),
    )


def _frees(unit: Any) -> bool:
    """Whether a unit's parameters are freed after forward; the root's never are."""
    return not unit._is_root and unit._handle._sharding_strategy.name in _FREED_AFTER_FORWARD


def _elements(handle: Any) -> int:
    """Of the flat parameter, in which each tensor begins at an aligned place."""
    return int(handle.flat_param._unpadded_unsharded_size.numel())


def _padded(handle: Any) -> int:
    shards = int(handle.world_size)
    return -(-_elements(handle) // shards) * shards


def _gathered(handles: Iterable[Any]) -> int:
    return sum(_padded(handle) * int(handle._fwd_bwd_param_dtype.itemsize) for handle in handles)


def _reduced(module: Any, handles: Iterable[Any]) -> int | None:
    """None where a hook of the user's reduces."""
    if module._comm_hook is not None:
        return None
    return sum(_padded(handle) * int(handle._reduce_dtype.itemsize) for handle in handles)
