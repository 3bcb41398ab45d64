"""A gzip file that grows by parts and is whole after each of them, so that a writer that is killed leaves one to read.

All parts are one gzip member, which every reader takes: each ends on a byte boundary (a full flush) and what closes
the file is written anew behind the last one.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

LEVEL = 2  # a JSON trace shrinks to a tenth at this level, at five times the speed of the default
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_RAW_DEFLATE = -15


class GrowingGzip:
    """What was written so far; knows no path, so that the file may be moved between two parts."""

    def __init__(self) -> None:
        self._end = 0
        self._checksum = 0
        self._size_bytes = 0
        self._closing = b""

    def extend(self, path: Path, part: bytes, ending: bytes) -> None:
        """Put `part` in the place of the last `ending`, and `ending` behind it. OSError where it stays as it was."""
        grown = (b"" if self._end else _HEADER) + _deflated(part, zlib.Z_FULL_FLUSH)
        checksum, size_bytes = zlib.crc32(part, self._checksum), self._size_bytes + len(part)
        trailer = struct.pack("<II", zlib.crc32(ending, checksum), (size_bytes + len(ending)) & 0xFFFFFFFF)
        closing = _deflated(ending, zlib.Z_FINISH) + trailer
        try:
            self._put(path, grown + closing)
        except OSError:
            with contextlib.suppress(OSError):
                self._put(path, self._closing)
            raise
        self._end += len(grown)
        self._checksum, self._size_bytes, self._closing = checksum, size_bytes, closing

    def _put(self, path: Path, data: bytes) -> None:
        """Everything behind what has grown so far."""
        with path.open("r+b" if self._end else "wb", buffering=0) as file:
            file.seek(self._end)
            file.truncate()
            while data:
                data = data[file.write(data) :]


def _deflated(data: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    return packer.compress(data) + packer.flush(flush)
