"""A study's results in one DuckDB file, or exported from it as a folder of Parquet or CSV files, a file a table.

    trials          a row a training: its cell, how it ended, when, with what settings
    environments    name and value of what a training ran on and with, by trial
    figures         the metrics of docs/metrics.md, by trial, name and part; null with the reason in `missing`
    steps, losses, accuracies    by trial and step
    metrics         what the names of figures mean, and their units and sources

A trial is written in one transaction: it is there as a whole or not at all. The file is open only while it is written
or read, so that a study can be looked at while it runs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec

from shardprof.analysis.result import Result
from shardprof.errors import ShardprofError
from shardprof.study.bench.cells import Cell
from shardprof.study.metrics import METRICS
from shardprof.study.results import FINISHED, Accuracy, Figure, Loss, Measurement, StepTime, Trial

FORMATS = ("parquet", "csv")
RESULTS_FILE = "results.duckdb"
_WAIT_FOR_OTHERS_S = 30.0

_TABLES = {
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
_PARTS: dict[str, type[Any]] = {"figures": Figure, "steps": StepTime, "losses": Loss, "accuracies": Accuracy}
_OF_CSV = "header=true, allow_quoted_nulls=false"  # what is quoted and empty is a text
_CELL = tuple(field.name for field in fields(Cell))
T = TypeVar("T")


class Store:
    """The results in `path`: a file, made when something is added, or a folder that was exported, to be read only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self) -> set[str]:
        """The trials that are there, by id."""
        if not self.path.exists():
            return set()
        with self._opened(read_only=True) as database:
            return {row[0] for row in database.execute("SELECT trial_id FROM trials").fetchall()}

    def add(self, trial: Trial) -> None:
        """Write a trial, all of it or nothing."""
        with self._opened(read_only=False) as database:
            database.begin()
            _insert(database, "trials", [_row(trial)])
            _insert(database, "environments", [(trial.trial_id, *fact) for fact in trial.environment.items()])
            for table, kind in _PARTS.items():
                names = [field.name for field in fields(kind)]
                values = getattr(trial.measurement, table)
                _insert(database, table, [(trial.trial_id, *(getattr(v, name) for name in names)) for v in values])
            database.commit()

    def forget_failed(self) -> None:
        """Take out the trials that did not finish, so that they can be run again."""
        failed = f"(SELECT trial_id FROM trials WHERE status != '{FINISHED}')"
        with self._opened(read_only=False) as database:
            database.begin()
            for table in ("environments", *_PARTS, "trials"):
                database.execute(f"DELETE FROM {table} WHERE trial_id IN {failed}")
            database.commit()

    def trials(self) -> list[Trial]:
        """All of them, in the order in which they ran. Raises ShardprofError for what holds no study."""
        if not self.path.exists():
            raise ShardprofError(f"{self.path}: no such results", "shardprof bench run STUDY.toml makes some")
        with self._opened(read_only=True) as database:
            try:
                return _trials(database)
            except duckdb.Error as error:
                raise ShardprofError(f"{self.path} holds no study ({_line(error)})", "name another") from error

    def export(self, folder: Path, form: str) -> list[Path]:
        """Write each table into `folder` as one of FORMATS; the files."""
        folder.mkdir(parents=True, exist_ok=True)
        options = "FORMAT parquet, COMPRESSION zstd" if form == "parquet" else "FORMAT csv, HEADER"
        files = [folder / f"{table}.{form}" for table in _TABLES]
        with self._opened(read_only=True) as database:
            for table, file in zip(_TABLES, files, strict=True):
                database.execute(f"COPY (FROM {table}) TO '{_quoted(file)}' ({options})")
        return files

    @contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        if self.path.is_dir():
            database = _exported(self.path)
        else:
            database = _patiently(self.path, read_only=read_only)
            if not read_only:
                _create(database)
        try:
            yield database
        finally:
            database.close()


def store_in(path: Path) -> Store:
    """The results that a path means: a study's folder, its file, or an export."""
    return Store(path / RESULTS_FILE if (path / RESULTS_FILE).exists() else path)


def _patiently(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """The file, when whoever else has it open has done with it. Raises ShardprofError for what is no such file."""
    deadline = time.monotonic() + _WAIT_FOR_OTHERS_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise ShardprofError(f"{path} cannot be opened ({_line(error)})", "name a study's results") from error
            time.sleep(0.1)
        except duckdb.Error as error:
            raise ShardprofError(f"{path} holds no study ({_line(error)})", "name a study's results") from error


def _create(database: duckdb.DuckDBPyConnection) -> None:
    for table, columns in _TABLES.items():
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    rows = [(m.name, m.number, m.unit, m.definition, m.source) for m in METRICS]
    database.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", rows)


def _exported(folder: Path) -> duckdb.DuckDBPyConnection:
    """The tables of an exported folder, as views."""
    form = next((form for form in FORMATS if (folder / f"trials.{form}").exists()), None)
    if form is None:
        raise ShardprofError(f"{folder} holds no study", "name a results file, or a folder that was exported")
    database = duckdb.connect()
    for table, columns in _TABLES.items():
        file = f"'{_quoted(folder / f'{table}.{form}')}'"
        types = {column.split()[0]: column.split()[1] for column in columns.split(",")}
        told = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
        source = f"read_parquet({file})" if form == "parquet" else f"read_csv({file}, {_OF_CSV}, columns={{{told}}})"
        try:
            database.execute(f"CREATE VIEW {table} AS FROM {source}")
        except duckdb.Error as error:
            raise ShardprofError(f"{folder} is no whole export ({_line(error)})", "export the study again") from error
    return database


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _insert(database: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:  # a column at a time: a row at a time takes a millisecond each
        columns = [list(column) for column in zip(*rows, strict=True)]
        database.execute(f"INSERT INTO {table} SELECT {', '.join(['unnest(?)'] * len(columns))}", columns)


def _row(trial: Trial) -> tuple[Any, ...]:
    measurement = trial.measurement
    return (
        trial.trial_id, trial.study, trial.cell_id, trial.repeat, trial.position, trial.status, trial.reason,
        trial.started_ns, trial.seconds, trial.fabric_bytes_per_s, *(getattr(trial.cell, name) for name in _CELL),
        *(_json(part) for part in (trial.knobs, trial.length, measurement.workload, measurement.report)),
    )  # fmt: skip


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _trials(database: duckdb.DuckDBPyConnection) -> list[Trial]:
    environments: dict[str, dict[str, str]] = defaultdict(dict)
    for trial_id, name, value in database.execute("FROM environments").fetchall():
        environments[trial_id][name] = value
    parts = {table: _by_trial(database, table, kind) for table, kind in _PARTS.items()}
    rows = _named(database.execute("FROM trials ORDER BY started_ns, position"))
    return [_trial(row, environments[row["trial_id"]], parts) for row in rows]


def _by_trial(database: duckdb.DuckDBPyConnection, table: str, kind: type[T]) -> dict[str, list[T]]:
    order = "" if table == "figures" else " ORDER BY trial_id, step"
    grouped: dict[str, list[T]] = defaultdict(list)
    for row in _named(database.execute(f"FROM {table}{order}")):
        grouped[row.pop("trial_id")].append(kind(**row))
    return grouped


def _named(result: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in result.description or ()]
    for row in result.fetchall():
        yield dict(zip(names, row, strict=True))


def _trial(row: dict[str, Any], environment: dict[str, str], parts: dict[str, dict[str, list[Any]]]) -> Trial:
    trial_id = row["trial_id"]
    measurement = Measurement(
        **{table: tuple(of_trial.get(trial_id, ())) for table, of_trial in parts.items()},
        workload=msgspec.json.decode(row["workload"]) if row["workload"] else {},
        report=msgspec.json.decode(row["report"], type=Result) if row["report"] else None,
    )
    plain = (
        "study", "cell_id", "repeat", "position", "status", "reason", "started_ns", "seconds", "fabric_bytes_per_s"
    )  # fmt: skip
    return Trial(
        trial_id=trial_id,
        cell=Cell(**{name: row[name] for name in _CELL}),
        knobs=msgspec.json.decode(row["knob_values"]),
        length=msgspec.json.decode(row["length"]),
        environment=environment,
        measurement=measurement,
        **{name: row[name] for name in plain},
    )
