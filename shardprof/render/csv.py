"""Everything tabular of a report as CSV, a file a table in a folder: for spreadsheets, R, SQL, awk.

A row is a line: line breaks and what else cannot be printed are written as escapes. Lists are JSON, as are true and
false. What was not measured is empty. Text that a spreadsheet would run as a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from shardprof.analysis.result import Result
from shardprof.render import _folder
from shardprof.render._flat import Table, report_tables
from shardprof.render._focus import require_whole

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and their wide forms


def check(focus: str = "report") -> None:
    """Raises ShardprofError where a part is asked for."""
    require_whole(focus)


def render_folder(result: Result, folder: Path) -> None:
    """Write a file a table into `folder`, which is made if need be. OSError where that fails."""
    write_tables(report_tables(result), folder)


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write tables as `<name>.csv`, all of them or none."""
    _folder.write_tables(tables, folder, ".csv", _write)


def _write(table: Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(map(_cell, table.columns))
        lines.writerows([_cell(row.get(column)) for column in table.columns] for row in table.rows)


def _cell(value: object) -> object:
    if isinstance(value, (bool, list)):
        return json.dumps(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value
