"""How long Python's garbage collector held this process up."""

from __future__ import annotations

import gc
import time
from typing import Any

from shardprof.recording.shield import shielded


class Garbage:
    """Counts from when it is made until it stops. A collection holds all threads, whichever one started it."""

    def __init__(self) -> None:
        self._begin_ns = 0
        self._total_ns = 0
        self._callback = shielded(self._collecting)
        gc.callbacks.append(self._callback)

    def take_ns(self) -> int:
        """The time since it was last asked."""
        taken, self._total_ns = self._total_ns, 0
        return taken

    def stop(self) -> None:
        """Collections are no longer counted."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def _collecting(self, phase: str, _info: dict[str, Any]) -> None:
        now_ns = time.monotonic_ns()
        if phase == "start":
            self._begin_ns = now_ns
        elif self._begin_ns:
            self._total_ns += now_ns - self._begin_ns
