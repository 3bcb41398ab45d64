"""The ranks of one node as they check in, for all that looks at them from the recorder's process.

A rank that an elastic job has started anew is another process, perhaps on another node: those of this node are looked
at again now and then, those of others more rarely.
"""

from __future__ import annotations

import math
import threading
import time

from shardprof.trace.schema import RANK_FILE, RankRecord, RunFolder, read_whole

NEW_EVERY_S = 0.5
OURS_EVERY_S = 5.0
OTHERS_EVERY_S = 60.0


class NodeRanks:
    """The ranks of `host`, for any thread. However often it is asked, it looks at the folder twice a second at most."""

    def __init__(self, run: RunFolder, host: str) -> None:
        self.run = run
        self.host = host
        self._lock = threading.Lock()
        self._records: dict[str, RankRecord] = {}
        self._read_at: dict[str, float] = {}
        self._looked_at = -math.inf

    def current(self) -> list[RankRecord]:
        """The latest record of each rank of this node; its process may have ended."""
        with self._lock:
            now = time.monotonic()
            if now >= self._looked_at + NEW_EVERY_S:
                self._looked_at = now
                self._look(now)
            return list(self._records.values())

    def _look(self, now: float) -> None:
        for folder in self.run.rank_folders():
            every_s = OURS_EVERY_S if folder.name in self._records else OTHERS_EVERY_S
            if now < self._read_at.get(folder.name, -math.inf) + every_s:
                continue
            try:
                record = read_whole(RankRecord, folder / RANK_FILE)
            except (OSError, ValueError, TypeError):
                continue  # not written yet: the next look finds it
            self._read_at[folder.name] = now
            if record.host == self.host:
                self._records[folder.name] = record
            else:
                self._records.pop(folder.name, None)
