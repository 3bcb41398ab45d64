"""A file in which somebody wrote down what NCCL did: whose it is tells its content, never its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shardprof.errors import UnreadableTraceError
from shardprof.trace.importers import comma, flight_recorder, nccl_inspector
from shardprof.trace.nccl.operations import Operations

_FORMATS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Operations]], ...] = (
    ("Inspector", nccl_inspector.sniff, nccl_inspector.read),
    ("CoMMA", comma.sniff, comma.read),
    ("flight recorder", flight_recorder.sniff, flight_recorder.read),
)
"""What each format is called, how it is recognised and read. The first that knows a file has it."""


def read(path: Path) -> Operations | None:
    """What a file tells of NCCL's operations; None where it is of no known format. Raises OSError, and
    UnreadableTraceError for a file of a known format that cannot be read."""
    told = read_named(path)
    return told[1] if told else None


def read_named(path: Path) -> tuple[str, Operations] | None:
    """The same, with what its writer is called."""
    for name, knows, reader in _FORMATS:
        if knows(path):
            try:
                return name, reader(path)
            except UnreadableTraceError as error:
                raise UnreadableTraceError(f"{path}: {error.message}", error.hint) from error
    return None
