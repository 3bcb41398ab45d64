"""Files that appear whole or not at all, whoever else writes them at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its place at the end: a reader sees the old file or the new one.
    Where the body raises, nothing remains."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")  # nodes may share pids
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
