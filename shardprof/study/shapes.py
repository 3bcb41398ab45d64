"""Which Vision Transformers can be trained, by name; without torch, for who only has to know."""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = 10
COLOURS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTConfig:
    """The shape of a Vision Transformer; `width` is the hidden size, `mlp` the inner size of a block's MLP."""

    layers: int
    heads: int
    width: int
    mlp: int
    patch_size: int
    image_size: int

    @property
    def parameters(self) -> int:
        """How many elements it has: two norms, attention and MLP in each block; patches, class token, positions, last
        norm and head beside them."""
        width, mlp = self.width, self.mlp
        block = 4 * width + 4 * width * (width + 1) + mlp * (width + 1) + width * (mlp + 1)
        tokens = 1 + (self.image_size // self.patch_size) ** 2
        patches = width * (COLOURS * self.patch_size**2 + 1)
        return self.layers * block + patches + (1 + tokens) * width + 2 * width + CLASSES * (width + 1)


MODELS = {
    "vit_b_16": ViTConfig(layers=12, heads=12, width=768, mlp=3072, patch_size=16, image_size=224),
    "vit_l_16": ViTConfig(layers=24, heads=16, width=1024, mlp=4096, patch_size=16, image_size=224),
    "vit_h_14": ViTConfig(layers=32, heads=16, width=1280, mlp=5120, patch_size=14, image_size=224),
    "vit_small": ViTConfig(layers=6, heads=4, width=128, mlp=512, patch_size=8, image_size=32),
    "vit_digits": ViTConfig(layers=4, heads=4, width=128, mlp=512, patch_size=16, image_size=32),
}
