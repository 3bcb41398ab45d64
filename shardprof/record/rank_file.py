"""The rank's own record on disk, `rank.json`: whole at any moment, whichever thread adds to it."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

from shardprof.trace.schema import RankRecord, Window, write_whole

MAX_NOTES = 50


class RankFile:
    """Holds the RankRecord and rewrites the file with each change."""

    def __init__(self, path: Path, record: RankRecord) -> None:
        self._path = path
        self._lock = threading.RLock()  # re-entrant: a signal handler may interrupt a change to add one
        self.record = record
        self.update()

    def update(self, **changes: Any) -> None:
        """Change fields of the record."""
        with self._lock:
            self.record = dataclasses.replace(self.record, **changes)
            write_whole(self._path, self.record)

    def note(self, text: str) -> None:
        """Add a line about what was lost or odd; the same line once."""
        with self._lock:
            if text not in self.record.notes and len(self.record.notes) < MAX_NOTES:
                self.update(notes=(*self.record.notes, text))

    def dropped(self, text: str) -> None:
        """Count a record that was lost by our own fault, and say why."""
        with self._lock:
            self.record = dataclasses.replace(self.record, dropped_records=self.record.dropped_records + 1)
            self.note(text)

    def put_window(self, window: Window, *, instead_of: Window | None = None) -> None:
        """Add a captured window, or put it in the place of an earlier one."""
        with self._lock:
            others = tuple(known for known in self.record.windows if known != instead_of)
            self.update(windows=(*others, window))
