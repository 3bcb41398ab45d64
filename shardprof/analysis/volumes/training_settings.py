"""What a recorded training was set to, read from the settings that its framework told: docs/run-format.md names them.

They come from a file: whatever is not of its type is as unknown as what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_ELEMENT_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}


class UnknownError(Exception):
    """A setting that a figure rests on is not known."""


class TrainingSettings:
    """The settings by name."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.strategy = str(settings.get("strategy") or "")
        self.zero_stage = self.get("zero_stage")

    def get(self, name: str) -> int | None:
        """A number that is not negative, or a switch as 0 or 1."""
        value = self._settings.get(name)
        return int(value) if isinstance(value, (int, float)) and 0 <= value < math.inf else None

    def number(self, name: str) -> int:
        """The same. Raises UnknownError where it is not told."""
        value = self.get(name)
        if value is None:
            raise UnknownError(name)
        return value

    @property
    def mesh(self) -> tuple[int, ...]:
        """How often the model is replicated, if it is, and among how many ranks a replica is. Raises UnknownError."""
        mesh = self._settings.get("mesh")
        sizes = tuple(size for size in mesh if isinstance(size, int) and size > 0) if isinstance(mesh, list) else ()
        if len(sizes) not in (1, 2) or sizes != tuple(mesh or ()):
            raise UnknownError("mesh")
        return sizes

    @property
    def shards(self) -> int:
        """The ranks that share one replica of the model."""
        return self.mesh[-1]

    @property
    def replicas(self) -> int:
        """How many such groups of ranks there are."""
        return math.prod(self.mesh[:-1])

    @property
    def is_replicated(self) -> bool:
        """Every rank keeps everything: gradients are all-reduced."""
        return self.strategy in ("DDP", "NO_SHARD") or self.zero_stage == 0

    @property
    def is_partly_sharded(self) -> bool:
        """Every rank keeps all parameters and a shard of the rest (ZeRO-1 and ZeRO-2)."""
        return self.zero_stage in (1, 2)

    @property
    def gathers_again(self) -> bool:
        """The strategy frees parameters after forward, so that backward needs them gathered again."""
        return self.zero_stage == 3 or self.strategy in ("full shard", "hybrid shard")

    @property
    def stored_bytes(self) -> int:
        """All parameters in the precision in which they are kept. Raises UnknownError."""
        elements = self._sizes("elements_by_dtype")
        if not elements or any(name not in _ELEMENT_BYTES for name in elements):
            raise UnknownError("elements_by_dtype")
        return sum(_ELEMENT_BYTES[name] * number for name, number in elements.items())

    @property
    def stored_bytes_an_element(self) -> float:
        """The mean over all parameters. Raises UnknownError."""
        return self.stored_bytes / (self.number("parameters") or 1)

    @property
    def trained_elements(self) -> int:
        """The elements that have gradients. Raises UnknownError."""
        width = _ELEMENT_BYTES.get(str(self._settings.get("reduce_dtype")))
        if width is None:
            raise UnknownError("reduce_dtype")
        return self.number("gradient_bytes") // width

    @property
    def state_bytes(self) -> dict[str, int]:
        """What the rank held when its first step had ended, by part."""
        return self._sizes("state_bytes")

    def _sizes(self, name: str) -> dict[str, int]:
        sizes = self._settings.get(name)
        known = sizes.items() if isinstance(sizes, dict) else ()
        return {str(key): size for key, size in known if isinstance(size, int)}
