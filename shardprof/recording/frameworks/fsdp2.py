"""PyTorch FSDP2, `fully_shard`: it hooks modules instead of wrapping them, so its root is found as it runs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from shardprof.recording.frameworks._common import (
    dtype_name,
    dtype_of,
    elements_by_dtype,
    names_of,
    part,
    told,
)
from shardprof.recording.frameworks._model_states import follow_optimizers, model_states, optimizers_of
from shardprof.recording.rank.patches import watch
from shardprof.recording.rank.steps import FORWARD

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent

MODULE = "torch.distributed.fsdp._fully_shard._fsdp_state"

# By "is replicated too" and "frees parameters after forward".
STRATEGIES = {
    (False, True): "full shard",
    (False, False): "reshard_after_forward=False",
    (True, True): "hybrid shard",
    (True, False): "hybrid shard, reshard_after_forward=False",
}


def install(agent: Agent) -> None:
    """Time forward from the root's pre-hook to its post-hook.

    Hooks that `fully_shard` registered before a block of `shardprof.record()` stay what they were: so what is watched
    are methods that these call, which are looked up by name each time.
    """

    def root_begins(state: Any, module: Any, *_args: Any, **_kwargs: Any) -> None:
        if _forward_root(state) is None:
            agent.begin(FORWARD)
            agent.uses("FSDP2", module, describe)

    def is_root(state: Any, *_args: Any, **_kwargs: Any) -> bool:
        return _forward_root(state) is state

    def root_ends(was_root: bool | None) -> None:  # noqa: FBT001
        if was_root:
            agent.end()

    follow_optimizers()
    state_type = importlib.import_module(MODULE).FSDPState
    watch(state_type, "_root_pre_forward", before=root_begins)
    watch(state_type, "_register_pre_backward_hook", before=is_root, after=root_ends)


def _forward_root(state: Any) -> Any:
    """The state whose module the running forward entered first; None outside forward."""
    return getattr(getattr(state, "_state_ctx", None), "iter_forward_root", None)


def describe(module: Any) -> dict[str, Any]:
    """The settings of the module tree below an FSDP2 root."""
    state = importlib.import_module(MODULE)._get_module_fsdp_state(module)
    groups = [group for each in state._state_ctx.all_states for group in each._fsdp_param_groups]
    parameters = [parameter.sharded_param for group in groups for parameter in group.fsdp_params]
    inner = [group for group in groups if group not in state._fsdp_param_groups] or groups
    mesh = groups[0].mesh_info.mesh
    reshards = any(group.post_forward_mesh_info is not None for group in inner)
    return {
        "strategy": STRATEGIES[mesh.ndim > 1, reshards],
        "mesh": list(mesh.shape),
        "precision": dtype_name(groups[0].mp_policy.param_dtype) or dtype_of(parameters),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "units": len(groups),
        **part(lambda: _volumes(groups, state._fsdp_param_groups)),
        **part(lambda: model_states(parameters, optimizers_of(parameters))),
    }


def _volumes(groups: list[Any], root: list[Any]) -> dict[str, Any]:
    """What the bytes that are gathered and reduced depend on."""
    every = [parameter for group in groups for parameter in group.fsdp_params]
    again = [group for group in groups if group.post_forward_mesh_info is not None]
    trained = [parameter for parameter in every if parameter.sharded_param.requires_grad]
    mesh = groups[0].mesh_info
    return told(
        mesh_names=lambda: list(mesh.mesh.mesh_dim_names or ()) or None,
        root_parameters=lambda: sum(p.sharded_param.numel() for group in root for p in group.fsdp_params),
        elements_by_dtype=lambda: elements_by_dtype((p.sharded_param.dtype, p.sharded_param.numel()) for p in every),
        units_gathered_again=lambda: len(again),
        units_reduced=lambda: sum(any(p.sharded_param.requires_grad for p in g.fsdp_params) for g in groups),
        gather_again_ranks=lambda: next((group.post_forward_mesh_info.shard_mesh_size for group in again), None),
        param_dtype=lambda: names_of(map(_gather_dtype, every)),
        reduce_dtype=lambda: names_of(map(_reduce_dtype, trained)),
        parameter_bytes=lambda: sum(p.sharded_param.numel() * _gather_dtype(p).itemsize for p in every),
        gradient_bytes=lambda: sum(p.sharded_param.numel() * _reduce_dtype(p).itemsize for p in trained),
        gather_bytes=lambda: _gathered(groups),
        gather_again_bytes=lambda: _gathered(again),
        reduce_bytes=lambda: sum(_padded(p) * _reduce_dtype(p).itemsize for p in trained),
        cpu_offload=lambda: any(parameter.offload_to_cpu for parameter in every),
    )


def _gathered(groups: Iterable[Any]) -> int | None:
    """None where tensors of the user's say themselves what of them is gathered, as those in fp8 do."""
    parameters = [parameter for group in groups for parameter in group.fsdp_params]
    if any(hasattr(parameter._sharded_local_tensor, "fsdp_pre_all_gather") for parameter in parameters):
        return None
    return sum(_padded(parameter) * _gather_dtype(parameter).itemsize for parameter in parameters)


def _padded(parameter: Any) -> int:
    """The elements of all shards: the sharded dimension is filled up to a multiple of their number."""
    return int(parameter.padded_sharded_param_size.numel() * parameter.mesh_info.shard_mesh_size)


def _gather_dtype(parameter: Any) -> torch.dtype:
    dtype: torch.dtype = parameter.param_dtype or parameter.orig_dtype
    return dtype


def _reduce_dtype(parameter: Any) -> torch.dtype:
    return parameter.reduce_dtype or _gather_dtype(parameter)
