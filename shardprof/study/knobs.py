"""What can be set of the strategies other than as their frameworks ship it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

_MOST = 2**31 - 1  # what a column of the results holds, and what the frameworks count with
Natural = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class Knobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """None leaves a knob as it is shipped.

    `wrap` makes units of FSDP of blocks or one of the whole model; `prefetch` is how many units ahead it gathers, in
    forward and backward; `no_sync` communicates gradients with the last micro-batch only; `bucket_mb` is DDP's;
    `reduce_bucket_elements`, `prefetch_bucket_elements`, `persistence_threshold` and `overlap` are DeepSpeed's; with
    `offload` optimizer states, and parameters where they are sharded, are kept in the host's memory.
    """

    wrap: Literal["block", "whole"] | None = None
    prefetch: Natural | None = None
    no_sync: bool | None = None
    bucket_mb: Positive | None = None
    reduce_bucket_elements: Positive | None = None
    prefetch_bucket_elements: Natural | None = None
    persistence_threshold: Natural | None = None
    overlap: bool | None = None
    offload: bool | None = None

    def told(self) -> set[str]:
        """The names of the knobs that are set."""
        return {name for name in Knobs.__struct_fields__ if getattr(self, name) is not None}


_OF_TORCH = {"no_sync"}
_OF_FSDP = _OF_TORCH | {"wrap", "prefetch", "offload"}
_OF_ZERO = {"reduce_bucket_elements", "overlap"}
KNOBS_OF = {
    "ddp": _OF_TORCH | {"bucket_mb"},
    **dict.fromkeys(("fsdp1-full", "fsdp1-grad-op", "fsdp1-hybrid"), _OF_FSDP),
    **dict.fromkeys(("fsdp2-full", "fsdp2-grad-op", "fsdp2-hybrid"), _OF_FSDP),
    "zero0": _OF_ZERO,
    "zero1": _OF_ZERO | {"offload"},
    "zero2": _OF_ZERO | {"offload"},
    "zero3": _OF_ZERO | {"offload", "prefetch_bucket_elements", "persistence_threshold"},
}
"""The strategies of several ranks, and which knobs each has."""
