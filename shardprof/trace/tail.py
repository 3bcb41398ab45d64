"""The lines of a journal as they are appended, while it is being put aside and thinned."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from shardprof.trace.journal import segments


class Tail:
    """Follows the journal at `path` from its beginning on. A file that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_segment = 0
        self._offset_bytes = 0

    def lines(self) -> list[str]:
        """Those that are new since the last call. One that is not yet whole comes later; of parts that were thinned
        meanwhile some may come again."""
        with contextlib.ExitStack() as files:
            try:
                current: BinaryIO | None = files.enter_context(self._path.open("rb"))
            except FileNotFoundError:
                current = None  # at this moment it is being put aside
            new, aside = self._put_aside()
            if current is not None and os.fstat(current.fileno()).st_ino not in aside:
                new += self._read(current)
        return new

    def _put_aside(self) -> tuple[list[str], set[int]]:
        """The new lines of segments that are new, the first of which is what was followed until then; their inodes."""
        new: list[str] = []
        inodes = set()
        for segment in segments(self._path):
            if segment.number <= self._last_segment:
                continue
            if segment.every > 1:
                self._offset_bytes = 0
            with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as file:  # thinned at this moment
                new += self._read(file)
                inodes.add(os.fstat(file.fileno()).st_ino)
            self._last_segment, self._offset_bytes = segment.number, 0
        return new, inodes

    def _read(self, file: BinaryIO) -> list[str]:
        file.seek(self._offset_bytes)
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset_bytes += len(whole)
        return whole.decode(errors="replace").split("\n")[:-1]
