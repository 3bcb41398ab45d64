"""PyTorch FSDP2, `fully_shard`: it hooks modules instead of wrapping them, so its root is found as it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shardprof.record.frameworks._common import dtype_name, dtype_of
from shardprof.record.rank.patches import watch
from shardprof.record.rank.steps import FORWARD

if TYPE_CHECKING:
    from shardprof.record.rank.agent import Agent

MODULE = "torch.distributed.fsdp._fully_shard._fsdp_state"

# By "is replicated too" and "frees parameters after forward".
STRATEGIES = {
    (False, True): "full shard",
    (False, False): "reshard_after_forward=False",
    (True, True): "hybrid shard",
    (True, False): "hybrid shard, reshard_after_forward=False",
}


def install(agent: Agent) -> None:
    """Time forward from the root's pre-hook to its post-hook."""

    def root_begins(state: Any, module: Any, *_args: Any, **_kwargs: Any) -> None:
        if _forward_root(state) is None:
            agent.begin(FORWARD)
            agent.uses("FSDP2", module, describe)

    def is_root(state: Any, *_args: Any, **_kwargs: Any) -> bool:
        return _forward_root(state) is state

    def root_ends(was_root: bool | None) -> None:  # noqa: FBT001
        if was_root:
            agent.end()

    state_type = importlib.import_module(MODULE).FSDPState
    watch(state_type, "_root_pre_forward", before=root_begins)
    watch(state_type, "_post_forward", before=is_root, after=root_ends)


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
    }
