"""How shardprof puts itself around a function of torch: transparent to the caller and to torch.compile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]


def replace(owner: Any, name: str, around: Callable[[Function], Function]) -> None:
    """Replace `owner.name` by `around(original)`; where this torch has no such name nothing happens.

    While torch.compile traces the program only the original is seen.
    """
    original: Function | None = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, unseen_by_compile(original, around(original)))


def unseen_by_compile(original: Function, replacement: Function) -> Function:
    """`replacement`, but `original` while torch.compile traces."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        return replacement(*args, **kwargs)

    return call
