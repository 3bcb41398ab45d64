"""The model is torchvision's, the same for the same seed, and its parameters are counted by FSDP unit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy

from shardprof.study.errors import WorkloadError
from shardprof.study.model import blocks, build_model, parameter_counts
from shardprof.study.shapes import MODELS, ViTConfig

TINY = ViTConfig(layers=2, heads=2, width=16, mlp=32, patch_size=8, image_size=32)


def test_vit_b_16_is_the_published_model_with_ten_classes() -> None:
    imagenet_parameters, width, fewer_classes = 86_567_656, 768, 1000 - 10
    with torch.device("meta"):
        counts = parameter_counts(build_model(MODELS["vit_b_16"]))
    assert counts.total == imagenet_parameters - fewer_classes * (width + 1)


def test_the_units_are_the_blocks_and_the_root_is_the_rest() -> None:
    counts = parameter_counts(build_model(TINY))
    width, mlp, patch, tokens = 16, 32, 8, 16 + 1
    attention = 4 * width * width + 4 * width
    block = attention + 2 * width * mlp + mlp + width + 4 * width
    root = 3 * patch * patch * width + width + width + tokens * width + 2 * width + 10 * width + 10
    assert (counts.block, counts.root, counts.total) == (block, root, root + 2 * block)


def test_the_seed_alone_decides_the_weights() -> None:
    first, again, other = (build_model(TINY, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv_proj.weight"], other["conv_proj.weight"])


def test_checkpointing_changes_no_result() -> None:
    images, labels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
    gradients = []
    for checkpointing in (False, True):
        model = build_model(TINY, checkpointing=checkpointing)
        cross_entropy(model(images), labels).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert len(blocks(model)) == TINY.layers
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "width 16 is not a multiple of 3 heads"),
        ({"patch_size": 5}, "32 is not a multiple of patch size 5"),
    ],
)
def test_a_shape_that_is_no_vit_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        build_model(dataclasses.replace(TINY, **change))
