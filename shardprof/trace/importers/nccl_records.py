"""A file in which somebody wrote down what NCCL did: whose it is tells its content, never its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from shardprof.errors import UnreadableTraceError
from shardprof.trace.importers import comma, flight_recorder, nccl_inspector
from shardprof.trace.nccl.operations import Operations

_FORMATS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Operations]], ...] = (
    (nccl_inspector.sniff, nccl_inspector.read),
    (comma.sniff, comma.read),
    (flight_recorder.sniff, flight_recorder.read),
)
"""How each format is recognised and read. The first that knows a file has it."""


def read(path: Path) -> Operations | None:
    """What a file tells of NCCL's operations; None where it is of no known format. Raises OSError, and
    UnreadableTraceError for a file of a known format that cannot be read."""
    reader = next((read for knows, read in _FORMATS if knows(path)), None)
    try:
        return reader(path) if reader else None
    except UnreadableTraceError as error:
        raise UnreadableTraceError(f"{path}: {error.message}", error.hint) from error


def read_folder(folder: Path) -> Iterator[tuple[Path, Operations]]:
    """The same for each file below a folder that tells something, by path: usually a file is a process. Raises as
    `read` does."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (operations := read(path)) is not None:
            yield path, operations
