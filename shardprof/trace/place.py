"""Where a rank is at this moment: one line of fixed length that it overwrites as it goes, for anyone to read.

It costs the rank a system call a phase and stays when the rank is stuck or killed: `top` and the watchdog live on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PLACE_FILE = "place"
LENGTH_BYTES = 96
BETWEEN, ENDED = "between", "ended"
"""What a rank does in no phase of a step, and once it has finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """In `phase` of `step` since `since_ns` (Unix time). `capture` is "recording", "near" or "far" from a window."""

    step: int
    phase: str
    since_ns: int
    capture: str


class PlaceWriter:
    """Overwrites the line at `path`. On a disk that takes nothing any more it falls silent."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def put(self, place: Place) -> None:
        """The rank is at `place` now."""
        if self._file is None:
            return
        line = f"{place.step} {place.phase} {place.since_ns} {place.capture}".ljust(LENGTH_BYTES - 1)
        try:
            os.pwrite(self._file, f"{line}\n".encode(), 0)
        except OSError:
            self._file = None


def read_place(path: Path) -> Place | None:
    """Where the rank was last; None where it has not said so yet, or is saying so at this moment."""
    try:
        step, phase, since_ns, capture = path.read_text()[:LENGTH_BYTES].split()
        return Place(step=int(step), phase=phase, since_ns=int(since_ns), capture=capture)
    except (OSError, ValueError):
        return None
