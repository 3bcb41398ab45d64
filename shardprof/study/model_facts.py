"""What a study must know of one of its models, measured without memory for it: on torch's meta device.

  python -m shardprof.study.model_facts vit_b_16 --precision bf16 --checkpointing

prints the facts as one JSON object, for whoever does not import torch. FLOPs are those that torch's FlopCounterMode
counts: multiplications and additions of matrix products and convolutions.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

import msgspec
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from shardprof.study.model import blocks, build_model, parameter_counts
from shardprof.study.model_sizes import ELEMENT_BYTES, ModelFacts, Shape
from shardprof.study.shapes import MODELS, ViTConfig
from shardprof.study.strategies import PRECISIONS


def facts(config: ViTConfig, *, precision: str, checkpointing: bool) -> ModelFacts:
    """The facts of a model that is kept and computed in one precision, as FSDP and DeepSpeed do.

    Raises WorkloadError for a shape that is no Vision Transformer.
    """
    dtype = PRECISIONS[precision]
    with torch.device("meta"):
        model = build_model(config)
    counts, block = parameter_counts(model), blocks(model)[0]
    of_block = _shapes(block)
    flops = _flops(config, dtype, checkpointing=False)
    return ModelFacts(
        parameters=counts.total,
        root_parameters=counts.root,
        block_parameters=counts.block,
        blocks=config.layers,
        root_shapes=tuple(shape for name, shape in _named_shapes(model) if not name.startswith("encoder.layers.")),
        block_shapes=of_block,
        tokens_per_sample=1 + (config.image_size // config.patch_size) ** 2,
        flops_per_sample=flops,
        executed_flops_per_sample=_flops(config, dtype, checkpointing=True) if checkpointing else flops,
        activation_bytes_per_sample=_activation_bytes(config, dtype, checkpointing=checkpointing),
    )


def _named_shapes(module: nn.Module) -> list[tuple[str, Shape]]:
    return [(name, tuple(parameter.shape)) for name, parameter in module.named_parameters()]


def _shapes(module: nn.Module) -> tuple[Shape, ...]:
    return tuple(shape for _, shape in _named_shapes(module))


def _flops(config: ViTConfig, dtype: torch.dtype, *, checkpointing: bool) -> int:
    with torch.device("meta"):
        model = build_model(config, checkpointing=checkpointing).to(dtype)
        counter = FlopCounterMode(display=False)
        with counter:
            _loss(model, config, dtype).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops()


def _loss(model: nn.Module, config: ViTConfig, dtype: torch.dtype) -> torch.Tensor:
    image = torch.empty(1, 3, config.image_size, config.image_size, dtype=dtype)
    loss: torch.Tensor = model(image).float().sum()
    return loss


def _activation_bytes(config: ViTConfig, dtype: torch.dtype, *, checkpointing: bool) -> int:
    saved = _saved_bytes(config, dtype, checkpointing=checkpointing)
    if not checkpointing:
        return saved
    one, two = (_saved_bytes(dataclasses.replace(config, layers=n), dtype, checkpointing=False) for n in (1, 2))
    return saved + two - one


def _saved_bytes(config: ViTConfig, dtype: torch.dtype, *, checkpointing: bool) -> int:
    """What autograd saves in the forward of one sample, each storage once, parameters not counted."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    # Not on the meta device: it has no fused attention, and without that the scores of every head would be saved.
    with torch.device("meta"):
        model = build_model(config, checkpointing=checkpointing).to(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            _loss(model, config, dtype)
        for parameter in model.parameters():
            storages.pop(parameter.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in storages.values())


def main() -> int:
    """Print the facts of the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--precision", choices=ELEMENT_BYTES, default="fp32")
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    told: Any = facts(MODELS[args.model], precision=args.precision, checkpointing=args.checkpointing)
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
