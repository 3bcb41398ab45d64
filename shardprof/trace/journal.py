"""An append-only file of lines that never grows beyond a bound: what is old is thinned, what is new is whole.

`steps.jsonl` is written until it is a segment long and then put aside as `steps.00001.1.jsonl`: number 1, every line
kept. When there are more segments than the bound allows, two neighbours of equal density become one with every second
of their lines (`steps.00002.2.jsonl`), the densest and of these the oldest first, so that the whole training stays
visible, ever more coarsely, and the last SEGMENTS_KEPT_WHOLE segments are as they were written.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SEGMENTS = 16
SEGMENTS_KEPT_WHOLE = 4


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A part that has been put aside: its place in the order, and that every `every`-th line is left of it."""

    number: int
    every: int
    path: Path


def segments(path: Path) -> list[Segment]:
    """The parts of `path` that have been put aside, the oldest first."""
    found = []
    for part in path.parent.glob(f"{path.stem}.*.*{path.suffix}"):
        number, every = part.name.removeprefix(f"{path.stem}.").split(".")[:2]
        if number.isdigit() and every.isdigit():
            found.append(Segment(int(number), int(every), part))
    return sorted(found)


def exists(path: Path) -> bool:
    """Has anything been written to it?"""
    return path.exists() or bool(segments(path))


def read_text_lines(path: Path) -> Iterator[str]:
    """All lines that are left, the oldest first; less what is thinned away meanwhile. A missing file is empty."""
    for part in [*(segment.path for segment in segments(path)), path]:
        with contextlib.suppress(FileNotFoundError), part.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


class Journal:
    """Appends lines to `path`. OSError where it cannot be opened, and from `append` where a line is lost."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._segment_bytes = most_bytes // SEGMENTS
        self._segments = segments(path)
        self._file = self._opened()
        self._written_bytes = os.lseek(self._file, 0, os.SEEK_END)
        self._mend = ""

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, line: str) -> None:
        """Add a line."""
        data = f"{self._mend}{line}\n".encode()
        written = os.write(self._file, data)
        self._mend = ""
        self._written_bytes += written
        if written < len(data):
            self._mend = "\n"  # what was torn ends there and does not take the next line with it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        if self._written_bytes >= self._segment_bytes:
            self._written_bytes = 0
            with contextlib.suppress(OSError):  # a folder that became read-only: the file itself still takes lines
                self._put_aside()

    def close(self) -> None:
        """There will be no further line."""
        os.close(self._file)

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _put_aside(self) -> None:
        number = self._segments[-1].number + 1 if self._segments else 1
        segment = Segment(number, 1, self._named(number, 1))
        self._path.rename(segment.path)
        self._segments.append(segment)
        full, self._file = self._file, self._opened()
        os.close(full)
        if len(self._segments) >= SEGMENTS:
            self._thin()

    def _thin(self) -> None:
        """Two segments become one of half their lines."""
        pairs = itertools.pairwise(self._segments[:-SEGMENTS_KEPT_WHOLE])
        alike = [(older, newer) for older, newer in pairs if older.every == newer.every]
        older, newer = min(alike, key=lambda pair: pair[0].every)
        thinned = Segment(newer.number, 2 * newer.every, self._named(newer.number, 2 * newer.every))
        partial = thinned.path.with_name(f".{thinned.path.name}")
        with partial.open("wb") as file:
            for segment in (older, newer):
                with segment.path.open("rb") as lines:
                    file.writelines(itertools.islice(lines, 0, None, 2))
        partial.replace(thinned.path)
        older.path.unlink()
        newer.path.unlink()
        self._segments = [thinned if kept is newer else kept for kept in self._segments if kept is not older]

    def _named(self, number: int, every: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number:05d}.{every}{self._path.suffix}")
