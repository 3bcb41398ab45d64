"""Several files that belong together, written into a folder: all of them or none, each whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from shardprof.render._flat import Table


def write_tables(tables: Sequence[Table], folder: Path, suffix: str, write: Callable[[Table, Path], None]) -> None:
    """Have `write` make a file of each table, and put them into `folder` once all are there. OSError where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shardprof-", dir=folder) as made:
        files = [Path(made) / f"{table.name}{suffix}" for table in tables]
        for table, file in zip(tables, files, strict=True):
            write(table, file)
        for file in files:
            file.replace(folder / file.name)
