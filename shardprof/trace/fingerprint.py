"""Whether what was made of a run is still true: a digest of its files and of this very build of shardprof."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import shardprof
from shardprof.trace.run import Run


def fingerprint(run: Run, asked: Sequence[str] = ()) -> str | None:
    """What depends on `run`, how it is read and what was `asked`; None where that cannot be told."""
    inputs = run.inputs()
    if not all(isinstance(file, Path) for file in inputs):
        return None
    how = run.reading
    pattern = how.rank_regex.pattern if how.rank_regex else ""
    reading = [*map(str, run.paths), str(how.max_text_bytes), pattern, how.clock]
    try:
        stamps = [_stamp(file) for file in inputs if isinstance(file, Path)]
    except OSError:
        return None
    return _digest([*reading, *stamps, _version(), *asked])


@cache
def _version() -> str:
    """Of this very build: what is read and computed may change without a release."""
    files = Path(shardprof.__file__).parent.rglob("*")
    return _digest(sorted(_stamp(file) for file in files if file.suffix in (".py", ".so")))


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{file} {stat.st_size} {stat.st_mtime_ns}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()
