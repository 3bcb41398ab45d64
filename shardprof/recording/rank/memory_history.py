"""What PyTorch's memory viewer (pytorch.org/memory_viz) opens: a snapshot of a GPU's allocations, where they came
from, and what happened to them during a captured window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shardprof.recording.rank import groups

MAX_EVENTS = 100_000
_memory: Any = torch.cuda.memory  # Any: these functions are untyped


class MemoryHistory:
    """Keeps the caching allocator's history while a window is recorded, and writes the snapshot at its end."""

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._note = note
        self._snapshots = 0
        self._is_on = False

    def install(self) -> None:
        """From now on the allocator remembers; not where there is no GPU, or where the script has it remember."""
        if not groups.uses_cuda():
            self._note("no memory snapshot: it is the allocator of a GPU whose history torch keeps")
            return
        if _is_kept_by_script():
            self._note("no memory snapshot: the script itself has torch keep the history of allocations")
            return
        _record_history(enabled="all", context="all", stacks="python", max_entries=MAX_EVENTS)
        self._is_on = True

    def remove(self) -> None:
        """Write the snapshot, and let the allocator forget."""
        if not self._is_on:
            return
        self._is_on = False
        name = "memory.pickle" if self._snapshots == 0 else f"memory.{self._snapshots}.pickle"
        self._snapshots += 1
        try:
            _memory._dump_snapshot(str(self._folder / name))
        finally:
            _record_history(enabled=None)


def _is_kept_by_script() -> bool:
    is_enabled: Any = getattr(torch._C, "_cuda_isHistoryEnabled", None)
    return bool(is_enabled and is_enabled())


def _record_history(**options: Any) -> None:
    _memory._record_memory_history(**options)
