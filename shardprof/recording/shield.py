"""Keeps failures of shardprof's own away from whoever calls it: a callback that raises gives None and a note.

SHARDPROF_FAULT names callbacks that are to fail ("Agent.begin,Sampler.work", or "all"): how the tests show that none of
them can harm a job.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FAULTS = set(filter(None, os.environ.get("SHARDPROF_FAULT", "").split(",")))
SHIELDED: set[str] = set()
"""The names of all callbacks that this process has shielded."""

_listeners: list[Callable[[str, Exception], None]] = []


def why(error: Exception) -> str:
    """What failed, in words: of the operating system's errors the file, which their `repr` leaves out."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return repr(error)


def report_failures_to(failed: Callable[[str, Exception], None]) -> None:
    """From now on `failed` hears of every callback that raises, and nobody else does."""
    _listeners[:] = [failed]


@contextlib.contextmanager
def heard_by(failed: Callable[[str, Exception], None]) -> Iterator[None]:
    """While this lasts `failed` hears of every callback that raises, too."""
    _listeners.append(failed)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody has been put in its place
            _listeners.remove(failed)


def shielded(callback: Callable[P, R]) -> Callable[P, R | None]:
    """`callback`, returning None where it would raise."""
    name = callback.__qualname__.replace(".<locals>", "")
    SHIELDED.add(name)

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            if FAULTS and not FAULTS.isdisjoint((name, "all")):
                raise RuntimeError(f"a fault asked for in {name}")
            return callback(*args, **kwargs)
        except Exception as error:
            with contextlib.suppress(Exception):
                for listener in _listeners:
                    listener(name, error)
            return None

    return call
