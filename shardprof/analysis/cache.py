"""The report of a run, computed once: kept beside its traces for as long as neither they nor shardprof change.

The cache is one JSON file in the folder `.shardprof-cache` beside a trace or inside a folder of traces, behind a line
that seals it: a digest of what the report depends on and of the report. It may be deleted at any time; where it cannot
be written or is damaged, the report is computed.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import shardprof
from shardprof.analysis.result import Result
from shardprof.trace.files import CACHE_FOLDER
from shardprof.trace.run import Run

_SWITCH = "SHARDPROF_CACHE"


def report_of(run: Run) -> Result:
    """Everything that is known of a run. Raises ShardprofError where its traces cannot be read."""
    file = _cache_file(run)
    key = _key(run) if file else None
    kept = _kept(file, key) if file and key else None
    if kept is not None:
        return kept
    from shardprof.analysis.report import analyse  # with NumPy, which a report that was kept does without

    result = analyse(run)
    may_change = any(doubt.code == "unreadable_trace" for doubt in result.quality)  # with more memory, say
    if file and key and not may_change:
        _keep(file, key, result)
    return result


def _cache_file(run: Run) -> Path | None:
    """Where the run's report is kept; None where it is not."""
    place = run.paths[0]
    if os.environ.get(_SWITCH) == "0" or not isinstance(place, Path):
        return None
    folder = (place if place.is_dir() else place.parent) / CACHE_FOLDER
    name = "report" if place.is_dir() else place.name
    return None if folder.is_symlink() else folder / f"{name}.json"  # what others packed must not lead elsewhere


def _key(run: Run) -> str | None:
    """What the report depends on, as a digest; None where that cannot be told."""
    inputs = run.inputs()
    if not all(isinstance(file, Path) for file in inputs):
        return None
    how = run.reading
    pattern = how.rank_regex.pattern if how.rank_regex else ""
    asked = [*map(str, run.paths), str(how.max_text_bytes), pattern, how.clock]
    try:
        stamps = [_stamp(file) for file in inputs if isinstance(file, Path)]
    except OSError:
        return None
    return _digest([*asked, *stamps, _engine_version()])


@cache
def _engine_version() -> str:
    """Of this very build: what is read and computed may change without a release."""
    files = Path(shardprof.__file__).parent.rglob("*")
    return _digest(sorted(_stamp(file) for file in files if file.suffix in (".py", ".so")))


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{file} {stat.st_size} {stat.st_mtime_ns}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _kept(file: Path, key: str) -> Result | None:
    import msgspec  # only where there is something to decode

    try:
        seal, _, body = file.read_bytes().partition(b"\n") if file.is_file() else (b"", b"", b"")
        return msgspec.json.decode(body, type=Result) if seal == _seal(key, body) else None
    except (OSError, ValueError):
        return None


def _keep(file: Path, key: str, result: Result) -> None:
    import msgspec

    with suppress(OSError, ValueError, RecursionError):  # what traces and records name need not be what JSON can hold
        body = msgspec.json.encode(result)
        if msgspec.json.decode(body, type=Result) == result and _may_write(file.parent):
            file.parent.mkdir(exist_ok=True)
            _replace(file, _seal(key, body) + b"\n" + body)


def _seal(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).hexdigest().encode()


def _replace(file: Path, content: bytes) -> None:
    """Whole or not at all, whoever else does the same."""
    partial = file.with_name(f".{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _may_write(folder: Path) -> bool:
    """Whether somebody may write there: root could anywhere, and data that is meant to stay as it is should."""
    existing = folder if folder.exists() else folder.parent
    return bool(existing.stat().st_mode & 0o222)
