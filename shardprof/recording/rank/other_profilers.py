"""Does the script run a profiler of its own? Then it has precedence: torch can run one at a time.

Watched at the backend that all of torch's profilers share, and at `torch.profiler.profile` itself: while its schedule
waits the backend is free, but its own `ProfilerStep#N` ranges would get among ours.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler.profiler import _KinetoProfile

from shardprof.recording.rank.patches import watch
from shardprof.trace.schema import Window


class OtherProfilers:
    """Tells the agent when a foreign profiler opens (`make_way`, before it does) and when it wrote a trace (`kept`)."""

    def __init__(
        self, make_way: Callable[[], None], current_step: Callable[[], int], kept: Callable[[Window], None]
    ) -> None:
        self._make_way = make_way
        self._current_step = current_step
        self._kept = kept
        self._open: weakref.WeakSet[object] = weakref.WeakSet()
        self._steps: weakref.WeakKeyDictionary[object, tuple[int, int]] = weakref.WeakKeyDictionary()
        self._is_ours = False

    @property
    def running(self) -> bool:
        """Is a foreign profiler open now? One may have been before anybody watched."""
        autograd: Any = torch.autograd
        return bool(self._open) or bool(autograd._profiler_enabled())

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """What is opened inside is shardprof's own."""
        self._is_ours = True
        try:
            yield
        finally:
            self._is_ours = False

    def watch(self) -> None:
        """Put the hooks in."""
        backend = torch.autograd.profiler.profile
        watch(torch.profiler.profile, "start", before=self._opens)
        watch(torch.profiler.profile, "stop", before=self._closes)
        watch(backend, "_prepare_trace", before=self._opens)
        watch(backend, "_start_trace", before=self._starts)
        watch(backend, "__exit__", before=self._closes)
        watch(_KinetoProfile, "export_chrome_trace", before=self._exports, returned=self._exported)

    def _opens(self, profiler: Any, *_args: Any, **_kwargs: Any) -> None:
        if not self._is_ours:
            self._make_way()
            self._open.add(profiler)

    def _starts(self, profiler: Any, *_args: Any, **_kwargs: Any) -> None:
        if profiler in self._open:
            self._steps[profiler] = (self._current_step(), self._current_step())

    def _closes(self, profiler: Any, *_args: Any, **_kwargs: Any) -> None:
        if profiler in self._steps and profiler in self._open:
            first, _ = self._steps[profiler]
            self._steps[profiler] = (first, max(first, self._current_step() - 1))
        self._open.discard(profiler)

    def _exports(self, profiler: Any, path: str, *_args: Any, **_kwargs: Any) -> tuple[Any, str]:
        return profiler, os.path.abspath(os.fspath(path))  # noqa: PTH100 - resolve() would follow the user's links

    def _exported(self, what: tuple[Any, str], _result: object) -> None:
        profiler, file = what
        steps = self._steps.get(getattr(profiler, "profiler", None) or profiler)
        if steps is not None:
            first, last = steps
            self._kept(Window(first_step=first, last_step=last, file=file, profiler="user"))
