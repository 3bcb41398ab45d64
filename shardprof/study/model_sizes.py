"""The sizes of a model that a study must know to tell what fits, what is moved and how much is computed.

Those of the study's own models are measured by model_facts.py; those of a model of which only the number of parameters
is known are taken from a usual transformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Shape = tuple[int, ...]

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""By precision."""

_USUAL_WIDTH_PER_LAYER = 128
_SAVED_PER_TOKEN_AND_WIDTH = 34
_CHECKPOINT_PER_TOKEN_AND_WIDTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model of `blocks` equal blocks, and the rest of it, the root: numbers of elements, and the shapes of the
    tensors of one block and of the root.

    A sample is `tokens_per_sample` tokens. `flops_per_sample` are those of its forward and backward without anything
    computed twice, `executed_flops_per_sample` with what checkpointing computes again. `activation_bytes_per_sample` is
    the most that is kept for backward beside parameters: with checkpointing the blocks' inputs, and all of one block.
    """

    parameters: int
    root_parameters: int
    block_parameters: int
    blocks: int
    root_shapes: tuple[Shape, ...]
    block_shapes: tuple[Shape, ...]
    tokens_per_sample: int
    flops_per_sample: int
    executed_flops_per_sample: int
    activation_bytes_per_sample: int

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of all tensors."""
        return self.root_shapes + self.blocks * self.block_shapes


def usual_transformer(parameters: int, *, precision: str, checkpointing: bool) -> ModelFacts:
    """A transformer of about so many parameters, of which a sample is one token: blocks of 12 w² elements, each block
    for 128 of its width w; attention's own FLOPs are left out, 6 a parameter and token are counted (8 with everything
    computed again).

    A block keeps 34 w bytes a token in 16 bits, where attention does not store its scores; a checkpointed one 2 w
    (Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, 2022, section 4).
    """
    usual_width = (parameters * _USUAL_WIDTH_PER_LAYER / 12) ** (1 / 3)
    blocks = max(1, round(usual_width / _USUAL_WIDTH_PER_LAYER))
    width = max(1, math.isqrt(parameters // (12 * blocks)))
    shapes: tuple[Shape, ...] = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
    block = sum(map(math.prod, shapes))
    root = parameters - blocks * block
    in_16_bits = width * ELEMENT_BYTES[precision] // 2
    kept = blocks * (_CHECKPOINT_PER_TOKEN_AND_WIDTH if checkpointing else _SAVED_PER_TOKEN_AND_WIDTH)
    return ModelFacts(
        parameters=parameters,
        root_parameters=root,
        block_parameters=block,
        blocks=blocks,
        root_shapes=((root,),) if root else (),
        block_shapes=shapes,
        tokens_per_sample=1,
        flops_per_sample=6 * parameters,
        executed_flops_per_sample=(8 if checkpointing else 6) * parameters,
        activation_bytes_per_sample=(kept + checkpointing * _SAVED_PER_TOKEN_AND_WIDTH) * in_16_bits,
    )
