"""The report of a run, computed once: kept beside its traces for as long as neither they nor shardprof change.

The cache is one JSON file in the folder `.shardprof-cache` beside a trace or inside a folder of traces, behind a line
that seals it: a digest of what the report depends on and of the report. It may be deleted at any time; where it cannot
be written or is damaged, the report is computed.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from shardprof.analysis.result import Result
from shardprof.trace.files import CACHE_FOLDER, may_write
from shardprof.trace.fingerprint import fingerprint
from shardprof.trace.run import Run
from shardprof.trace.whole import appearing

_SWITCH = "SHARDPROF_CACHE"


def report_of(run: Run) -> Result:
    """Everything that is known of a run. Raises ShardprofError where its traces cannot be read."""
    file = _cache_file(run)
    key = fingerprint(run) if file else None
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
        if msgspec.json.decode(body, type=Result) == result and may_write(file.parent):
            file.parent.mkdir(exist_ok=True)
            with appearing(file) as partial:
                partial.write_bytes(_seal(key, body) + b"\n" + body)


def _seal(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).hexdigest().encode()
