"""The tables of a study's results: their columns, in a database and in a folder that one was exported to."""

from __future__ import annotations

from pathlib import Path

import duckdb

from shardprof.errors import ShardprofError
from shardprof.study.metrics import METRICS

CONFIG: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": "false"}
"""A table that is not there is an error, and not a variable of that name."""
FORMATS = ("parquet", "csv")
_OF_CSV = "header=true, allow_quoted_nulls=false"  # what is quoted and empty is a text

TABLES = {
    "trials": """
        trial_id VARCHAR PRIMARY KEY, study VARCHAR, cell_id VARCHAR, repeat INTEGER, position INTEGER, status VARCHAR,
        reason VARCHAR, started_ns BIGINT, seconds DOUBLE, fabric_bytes_per_s DOUBLE, strategy VARCHAR, knobs VARCHAR,
        precision VARCHAR, checkpointing BOOLEAN, batch_size INTEGER, accumulation INTEGER, model VARCHAR,
        ranks INTEGER, nodes INTEGER, knob_values JSON, length JSON, workload JSON, report JSON""",
    "environments": "trial_id VARCHAR, name VARCHAR, value VARCHAR",
    "figures": "trial_id VARCHAR, name VARCHAR, part VARCHAR, value DOUBLE, unit VARCHAR, missing VARCHAR",
    "steps": "trial_id VARCHAR, step INTEGER, wall_ns BIGINT, counts BOOLEAN",
    "losses": """
        trial_id VARCHAR, step INTEGER, samples BIGINT, at_ns BIGINT, loss DOUBLE, grad_norm DOUBLE, skipped BOOLEAN""",
    "accuracies": "trial_id VARCHAR, step INTEGER, samples BIGINT, at_ns BIGINT, accuracy DOUBLE",
    "metrics": "name VARCHAR PRIMARY KEY, number INTEGER, unit VARCHAR, definition VARCHAR, source VARCHAR",
}
"""The schema."""


def create(database: duckdb.DuckDBPyConnection) -> None:
    """Make the tables that are not there, and tell in `metrics` what this version measures."""
    for table, columns in TABLES.items():
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    rows = [(m.name, m.number, m.unit, m.definition, m.source) for m in METRICS]
    database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", rows)


def are_in(database: duckdb.DuckDBPyConnection) -> bool:
    """Whether they are there: a study that is killed early leaves a database without any."""
    named = {row[0] for row in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    return named >= TABLES.keys()


def exported(folder: Path) -> duckdb.DuckDBPyConnection:
    """The tables of an exported folder, as views. Raises ShardprofError for a folder that is none."""
    form = next((form for form in FORMATS if (folder / f"trials.{form}").exists()), None)
    if form is None:
        raise ShardprofError(f"{folder} holds no study", "name a results file, or a folder that was exported")
    database = duckdb.connect(config=CONFIG)
    for table, columns in TABLES.items():
        file = f"'{quoted(folder / f'{table}.{form}')}'"
        types = {column.split()[0]: column.split()[1] for column in columns.split(",")}
        told = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
        source = f"read_parquet({file})" if form == "parquet" else f"read_csv({file}, {_OF_CSV}, columns={{{told}}})"
        try:
            database.execute(f"CREATE VIEW {table} AS FROM {source}")
        except duckdb.Error as error:
            raise ShardprofError(f"{folder} is no whole export ({line_of(error)})", "export the study again") from error
    return database


def quoted(path: Path) -> str:
    """As it stands between quotation marks in SQL."""
    return str(path).replace("'", "''")


def line_of(error: Exception) -> str:
    """The first line of what is wrong."""
    return next(iter(str(error).splitlines()), type(error).__name__)
