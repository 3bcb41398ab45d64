"""How shardprof looks at a function of torch: callbacks around each call, which can neither change nor break it.

Whatever a callback raises ends here and is told to `report_failures_to`. SHARDPROF_FAULT names callbacks that are to
fail ("Agent.begin,Agent.end", or "all"): the tests' way to show that none of them can harm a job.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]
Callback = Callable[..., Any]

FAULTS = frozenset(filter(None, os.environ.get("SHARDPROF_FAULT", "").split(",")))

_listeners: list[Callable[[str, Exception], None]] = []


def report_failures_to(failed: Callable[[str, Exception], None]) -> None:
    """From now on `failed` hears of every callback that raises."""
    _listeners[:] = [failed]


def shielded(callback: Callback) -> Callback:
    """`callback`, returning None where it would raise."""
    name = callback.__qualname__.replace(".<locals>", "")
    action = _faulty(name) if FAULTS & {name, "all"} else callback

    @functools.wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return action(*args, **kwargs)
        except Exception as error:
            with contextlib.suppress(Exception):
                for listener in _listeners:
                    listener(name, error)
            return None

    return call


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


def _faulty(name: str) -> Callback:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(f"a fault asked for in {name}")

    return fail
