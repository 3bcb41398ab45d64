"""Rows in the order of their keys, however many there are: sorted a part at a time, kept on disk, merged when read."""

from __future__ import annotations

import heapq
import marshal
import os
import zlib
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

Row = tuple[int, int, int, bytes]
"""The first two order it: when it begins, then what is first of what begins together; `int` and `bytes` are free."""
KEY = itemgetter(0, 1)

_ROW_BYTES = 300
"""What a row takes in memory, beside its text."""
_PART_BYTES = 32 << 20
_BATCH_ROWS = 64
_LEVEL = 1

Stored = tuple[int, int]
"""Where it lies in the file, and how long it is."""


class RowStore:
    """A nameless file in `folder` for rows of any number of sequences, and for what else has to wait; it is gone when
    the store is closed."""

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, value: Any) -> Stored:
        """Keep something that consists of numbers, bytes and lists and tuples of them."""
        data = zlib.compress(marshal.dumps(value), _LEVEL)
        begin = self._file.tell()
        self._file.write(data)
        return begin, len(data)

    def get(self, stored: Stored) -> Any:
        """What was kept."""
        begin, size_bytes = stored
        self._file.flush()
        return marshal.loads(zlib.decompress(os.pread(self._file.fileno(), size_bytes, begin)))


class SortedRows:
    """Rows that come in any order and leave sorted, those with equal keys as they came."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._waiting: list[Row] = []
        self._waiting_bytes = 0
        self._parts: list[list[Stored]] = []

    def add(self, row: Row) -> None:
        """Take a row."""
        self._waiting.append(row)
        self._waiting_bytes += len(row[3]) + _ROW_BYTES
        if self._waiting_bytes >= _PART_BYTES:
            self.finish()

    def finish(self) -> None:
        """What is in memory goes to disk."""
        rows, self._waiting, self._waiting_bytes = sorted(self._waiting, key=KEY), [], 0
        batches = [rows[at : at + _BATCH_ROWS] for at in range(0, len(rows), _BATCH_ROWS)]
        self._parts.append([self._store.put(batch) for batch in batches])

    def __iter__(self) -> Iterator[Row]:
        return heapq.merge(*(self._part(batches) for batches in self._parts), key=KEY)

    def _part(self, batches: list[Stored]) -> Iterator[Row]:
        for batch in batches:
            rows: list[Row] = self._store.get(batch)
            yield from rows
