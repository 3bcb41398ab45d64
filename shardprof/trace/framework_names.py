"""Which framework trained what a trace shows, by the names of its ranges."""

from __future__ import annotations

from collections.abc import Iterable

_BEGINNINGS = (
    ("DeepSpeed", "DeepSpeed"),
    ("FSDP::", "FSDP2"),
    ("FullyShardedDataParallel.", "FSDP1"),
    ("DistributedDataParallel.", "DDP"),
)


def framework_of(names: Iterable[str]) -> str | None:
    """ "DeepSpeed", "FSDP2", "FSDP1" or "DDP" as some event's name begins, the first of these; None if none does."""
    found = {framework for name in names for beginning, framework in _BEGINNINGS if name.startswith(beginning)}
    return next((framework for _, framework in _BEGINNINGS if framework in found), None)
