"""What a training tells of itself, so that trainings can be held beside each other: what must be equal in them.

`initial_weights` and `data_order` are checksums: of the parameters before anything is sharded, and of the order in
which all ranks see the images of the first epoch.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn
from torch.utils.data import DistributedSampler

from shardprof.study.strategies import WEIGHT_DECAY
from shardprof.study.world import World


def weights_checksum(model: nn.Module) -> str:
    """Of all parameters, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def order_checksum(split: Any, world: World, seed: int) -> str:
    """Of which image each rank sees when, in the first epoch."""
    digest = hashlib.sha256()
    for rank in range(world.size):
        sampler: DistributedSampler[int] = DistributedSampler(
            split, world.size, rank, shuffle=True, seed=seed, drop_last=True
        )
        digest.update(torch.tensor(list(sampler), dtype=torch.int64).numpy().tobytes())
    return digest.hexdigest()[:16]


def optimizer_facts(lr: float) -> dict[str, Any]:
    """The mathematics of the optimizer, which is the same for every strategy."""
    defaults = torch.optim.AdamW([torch.zeros(1)], lr=lr, weight_decay=WEIGHT_DECAY).defaults
    return {
        "optimizer": "AdamW",
        "lr": lr,
        **{name: defaults[name] for name in ("betas", "eps", "weight_decay", "amsgrad", "maximize")},
    }
