"""Which trainings a study consists of as it was last run: a table beside its results, so that a half-finished study
says what it lacks. Trainings of an earlier version of its file are none of them.

A study at several fabrics is several plans. Exports, and results of before there were plans, have no such table: of
their trainings nobody tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

_TABLE = "planned"
_COLUMNS = "study VARCHAR, fabric_bytes_per_s DOUBLE, trial_id VARCHAR"


def remember(
    database: duckdb.DuckDBPyConnection, study: str, fabric_bytes_per_s: float | None, trial_ids: Sequence[str]
) -> None:
    """That a study at a fabric consists of these, instead of what it was before."""
    key = [study, fabric_bytes_per_s]
    database.begin()
    database.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} ({_COLUMNS})")
    database.execute(f"DELETE FROM {_TABLE} WHERE study = ? AND fabric_bytes_per_s IS NOT DISTINCT FROM ?", key)
    database.execute(f"INSERT INTO {_TABLE} SELECT ?, ?, unnest(?)", [*key, list(trial_ids)])
    database.commit()


def planned_counts(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Of each planned training, by id, how many its study consists of; empty where nobody told."""
    known = database.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = ?", [_TABLE]).fetchone()
    if not known or not known[0]:
        return {}
    counted = f"SELECT trial_id, count(*) OVER (PARTITION BY study, fabric_bytes_per_s) FROM {_TABLE}"
    return dict(database.execute(counted).fetchall())
