"""PyTorch DistributedDataParallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from shardprof.record.frameworks._common import dtype_of, forward_of
from shardprof.record.rank.patches import watch

if TYPE_CHECKING:
    from shardprof.record.rank.agent import Agent

MODULE = "torch.nn.parallel.distributed"


def install(agent: Agent) -> None:
    """Time its forward."""
    watch(torch.nn.parallel.DistributedDataParallel, "forward", **forward_of(agent, "DDP", describe))


def describe(module: Any) -> dict[str, Any]:
    """The settings of a DDP module."""
    parameters = list(module.module.parameters())
    return {
        "strategy": "DDP",
        "precision": dtype_of(parameters),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "bucket_bytes": int(module.bucket_bytes_cap),
        "gradient_as_bucket_view": bool(module.gradient_as_bucket_view),
        "static_graph": bool(module.static_graph),
    }
