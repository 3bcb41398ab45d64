"""PyTorch DistributedDataParallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from shardprof.recording.frameworks._common import (
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

MODULE = "torch.nn.parallel.distributed"

_COMPRESSED = {"fp16_compress_hook": torch.float16, "bf16_compress_hook": torch.bfloat16}
"""Communication hooks of which it is known what they do to a gradient: all-reduce it in this precision."""


def install(agent: Agent) -> None:
    """Time its forward."""
    follow_optimizers()
    watch(torch.nn.parallel.DistributedDataParallel, "forward", **forward_of(agent, "DDP", describe))


def describe(module: Any) -> dict[str, Any]:
    """The settings of a DDP module."""
    parameters = list(module.module.parameters())
    return {
        "strategy": "DDP",
        "precision": dtype_of(parameters),
        "parameters": sum(parameter.numel() for parameter in parameters),
        **told(
            mesh=lambda: [module.process_group.size()],
            elements_by_dtype=lambda: elements_by_dtype((p.dtype, p.numel()) for p in parameters),
            bucket_bytes=lambda: int(module.bucket_bytes_cap),
            buckets=lambda: _buckets(module),
            gradient_as_bucket_view=lambda: bool(module.gradient_as_bucket_view),
            find_unused_parameters=lambda: bool(module.find_unused_parameters),
            static_graph=lambda: bool(module.static_graph),
            comm_hook=lambda: next((hook.__name__ for hook, _ in module._comm_hooks), None),
            reduce_dtype=lambda: names_of(_wire_dtype(module, p) for p in _reduced(module)),
            gradient_bytes=lambda: _bytes_on_the_wire(module),
            reduce_bytes=lambda: _bytes_on_the_wire(module),
        ),
        **part(lambda: model_states(parameters, optimizers_of(parameters))),
    }


def _reduced(module: Any) -> list[torch.Tensor]:
    return [parameter for parameter in module._module_parameters if parameter.requires_grad]


def _bytes_on_the_wire(module: Any) -> int:
    return sum(parameter.numel() * _wire_dtype(module, parameter).itemsize for parameter in _reduced(module))


def _wire_dtype(module: Any, parameter: torch.Tensor) -> torch.dtype:
    """What a gradient is reduced in. KeyError where a hook of the user's decides that."""
    if module._comm_hooks:
        return _COMPRESSED[module._comm_hooks[0][0].__name__]
    mixed = module.mixed_precision
    return parameter.dtype if mixed is None else mixed.reduce_dtype or mixed.param_dtype or parameter.dtype


def _buckets(module: Any) -> int | None:
    """How many there are. They are built again in the second step, unless parameters may be unused."""
    known = module._get_ddp_logging_data()
    sizes = known.get("rebuilt_bucket_sizes") or (module.find_unused_parameters and known.get("bucket_sizes"))
    return len(sizes.split(",")) if sizes else None
