"""Turns a finished trace into its compressed form without holding up the training: zlib releases the GIL."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

LEVEL = 2  # a JSON trace shrinks to a tenth at this level, at five times the speed of the default
CHUNK_BYTES = 1 << 20
LOWEST_PRIORITY = 19


def compress(path: Path) -> Path:
    """Replace `path` by `path.gz`, which appears whole or not at all."""
    target = path.with_name(f"{path.name}.gz")
    partial = path.with_name(f".{target.name}")
    with path.open("rb") as plain, gzip.open(partial, "wb", compresslevel=LEVEL) as packed:
        shutil.copyfileobj(plain, packed, CHUNK_BYTES)
    partial.replace(target)
    path.unlink()
    return target


class Compressor:
    """Compresses traces one after the other in the background; `done(plain, packed)` is called for each."""

    def __init__(self, done: Callable[[Path, Path], None], failed: Callable[[Path, OSError], None]) -> None:
        self._done = done
        self._failed = failed
        self._threads: list[threading.Thread] = []

    def put(self, path: Path, *, wait: bool) -> None:
        """Compress `path`; with `wait` before returning, as is needed at exit, when threads no longer start."""
        if wait:
            self._compress(path)
        else:
            thread = threading.Thread(target=self._compress_behind, args=(path,), name="shardprof-compress")
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Wait for what is under way."""
        while self._threads:
            self._threads.pop().join()

    def _compress_behind(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # Linux gives each thread a niceness of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        self._compress(path)

    def _compress(self, path: Path) -> None:
        try:
            self._done(path, compress(path))
        except OSError as error:
            self._failed(path, error)
