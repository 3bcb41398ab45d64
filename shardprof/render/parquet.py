"""Everything tabular of a report as Parquet, a file a table in a folder: for pandas, Polars, DuckDB, Spark.

Integers are 64 bits wide, lists are lists, what was not measured is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shardprof.analysis.result import Result
from shardprof.extras import require
from shardprof.render import _folder
from shardprof.render._flat import Table, report_tables
from shardprof.render._focus import require_whole


def check(focus: str = "report") -> None:
    """Raises ShardprofError where Polars is not installed, or a part is asked for."""
    require_whole(focus)
    require("polars", extra="frames")


def render_folder(result: Result, folder: Path) -> None:
    """Write a file a table into `folder`, which is made if need be.

    OSError where that fails, ShardprofError where Polars is not installed.
    """
    write_tables(report_tables(result), folder)


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write tables as `<name>.parquet`, all of them or none."""
    require("polars", extra="frames")
    _folder.write_tables(tables, folder, ".parquet", _write)


def _write(table: Table, path: Path) -> None:
    import polars as pl

    columns = {column: [row.get(column) for row in table.rows] for column in table.columns}
    pl.DataFrame(columns, schema=dict(table.columns), strict=False).write_parquet(path)
