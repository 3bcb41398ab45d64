"""Files in which other tools wrote down what NCCL did, told from traces before anything heavy is loaded."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

_HEAD_BYTES = 1 << 16
_MARKS = (b'"coll_perf"', b'"p2p_perf"', b'"comm_hash"', b"pg_config", b"nccl_version")
"""Of NCCL Inspector, CoMMA, and torch's flight recorder; Kineto's traces begin with none of them."""
_OF_TRACES = (b'"traceEvents"', b'"schemaVersion"', b'"deviceProperties"')


def nccl_files(files: Iterable[Path]) -> list[Path]:
    """Those of the files that look like such records."""
    return [file for file in files if _looks_like_nccl(file)]


def _looks_like_nccl(file: Path) -> bool:
    head = _head(file)
    return any(mark in head for mark in _MARKS) and not any(mark in head for mark in _OF_TRACES)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        packed = head[:2] == b"\x1f\x8b"
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES) if packed else head
    except (OSError, zlib.error):
        return b""
