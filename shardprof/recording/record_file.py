"""A record on disk that is whole at any moment, whichever thread adds to it: `host.json`, and `rank.json` of a rank."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any, Generic, TypeVar

from shardprof.trace.schema import HostRecord, RankRecord, Window, write_whole

MAX_NOTES = 50

Record = TypeVar("Record", HostRecord, RankRecord)


class RecordFile(Generic[Record]):
    """Holds a record and rewrites its file with each change; OSError where that fails, though the change holds."""

    def __init__(self, path: Path, record: Record) -> None:
        self._path = path
        self._lock = threading.RLock()  # re-entrant: a signal handler may interrupt a change to add one
        self.record: Record = record
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


class RankFile(RecordFile[RankRecord]):
    """The rank's own record, `rank.json`."""

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
