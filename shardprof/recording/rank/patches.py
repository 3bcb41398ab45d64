"""How shardprof looks at a function of torch: callbacks around each call, which can neither change nor break it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from shardprof.recording.shield import shielded

Function = Callable[..., Any]
Callback = Callable[..., Any]


def watch(
    owner: Any,
    name: str,
    *,
    before: Callback | None = None,
    returned: Callback | None = None,
    after: Callback | None = None,
) -> None:
    """Replace `owner.name` by `watched` of it; where this torch has no such name nothing happens."""
    original: Function | None = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, watched(original, before=before, returned=returned, after=after))


def watched(
    original: Function,
    *,
    before: Callback | None = None,
    returned: Callback | None = None,
    after: Callback | None = None,
) -> Function:
    """`original` with callbacks: `before(*args)` gives a token for `returned(token, result)` and `after(token)`.

    `after` is called in any case, `returned` unless `original` raised.

    While torch.compile traces the program only `original` is seen.
    """
    see_before, see_returned, see_after = (
        shielded(callback) if callback else None for callback in (before, returned, after)
    )

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        token = see_before(*args, **kwargs) if see_before else None
        try:
            result = original(*args, **kwargs)
            if see_returned:
                see_returned(token, result)
            return result
        finally:
            if see_after:
                see_after(token)

    return call
