"""Which Vision Transformer is trained, what its FSDP units are, and how many parameters each strategy moves.

A transformer block is one unit; what is left (patch embedding, class token, positions, last norm, head) is the root.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from shardprof.study.errors import WorkloadError
from shardprof.study.shapes import CLASSES, ViTConfig
from shardprof.study.vision import models


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Numbers of elements: of the whole model (Psi), of its root unit (Psi_root) and of one block."""

    total: int
    root: int
    block: int


def build_model(config: ViTConfig, *, seed: int = 0, checkpointing: bool = False) -> nn.Module:
    """The model on the CPU; the same weights for the same seed on every rank and for every strategy.

    With `checkpointing` each block keeps only its input and computes the rest again in backward.
    Raises WorkloadError for a shape that is no Vision Transformer.
    """
    _check(config)
    torch.manual_seed(seed)
    model: nn.Module = models.VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp,
        num_classes=CLASSES,
    )
    if checkpointing:
        layers = _layers(model)
        for name, block in list(layers.named_children()):
            layers.register_module(name, checkpoint_wrapper(block))
    return model


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks in order, with their checkpointing if they have it."""
    return list(_layers(model).children())


def parameter_counts(model: nn.Module) -> ParameterCounts:
    """How many elements the model, its root unit and one of its (equal) blocks hold; before it is sharded."""
    total = _elements(model)
    units = [_elements(block) for block in blocks(model)]
    return ParameterCounts(total=total, root=total - sum(units), block=units[0])


def _layers(model: nn.Module) -> nn.Module:
    return model.get_submodule("encoder.layers")


def _elements(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check(config: ViTConfig) -> None:
    for name in ("layers", "heads", "width", "mlp", "patch_size", "image_size"):
        if getattr(config, name) < 1:
            raise WorkloadError(f"{name} must be at least 1")
    if config.width % config.heads:
        raise WorkloadError(f"width {config.width} is not a multiple of {config.heads} heads")
    if config.image_size % config.patch_size:
        raise WorkloadError(f"image size {config.image_size} is not a multiple of patch size {config.patch_size}")
