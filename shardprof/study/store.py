"""A study's results in one DuckDB file, or exported from it as a folder of Parquet or CSV files, a file a table.

    trials          a row a training: its cell, how it ended, when, with what settings
    environments    name and value of what a training ran on and with, by trial
    figures         the metrics of docs/metrics.md, by trial, name and part; null with the reason in `missing`
    steps, losses, accuracies    by trial and step
    metrics         what the names of figures mean, and their units and sources
    planned         the trainings of each study as it was last run (planned.py); not exported

A trial is written in one transaction: it is there as a whole or not at all. The file is open only while it is written
or read, so that a study can be looked at while it runs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec

from shardprof.analysis.result import Result
from shardprof.errors import ShardprofError
from shardprof.study.bench.cells import Cell
from shardprof.study.planned import planned_counts, remember
from shardprof.study.results import Accuracy, Figure, Loss, Measurement, StepTime, Trial
from shardprof.study.schema import CONFIG, TABLES, are_in, create, exported, line_of, quoted

RESULTS_FILE = "results.duckdb"
_WAIT_FOR_OTHERS_S = 30.0

_PARTS: dict[str, type[Any]] = {"figures": Figure, "steps": StepTime, "losses": Loss, "accuracies": Accuracy}
_READ = {
    "figures": "FROM figures",
    "steps": "FROM steps WHERE wall_ns > 0 ORDER BY trial_id, step",  # what took no time was not measured
}
_CELL = tuple(field.name for field in fields(Cell))
T = TypeVar("T")


class Store:
    """The results in `path`: a file, made when something is added, or a folder that was exported, to be read only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def statuses(self) -> dict[str, str]:
        """How each trial that is there ended, by id."""
        if not self.path.exists():
            return {}
        with self._opened(read_only=True) as database:
            rows = database.execute("SELECT trial_id, status FROM trials").fetchall() if are_in(database) else []
        return dict(rows)

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

    def plan(self, study: str, fabric_bytes_per_s: float | None, trial_ids: Sequence[str]) -> None:
        """Remember which trainings a study at a fabric consists of."""
        with self._opened(read_only=False) as database:
            remember(database, study, fabric_bytes_per_s, trial_ids)

    def forget(self, trial_ids: Collection[str]) -> None:
        """Take these out, so that they can be run again."""
        if not trial_ids:
            return
        with self._opened(read_only=False) as database:
            database.begin()
            for table in ("environments", *_PARTS, "trials"):
                database.execute(
                    f"DELETE FROM {table} WHERE trial_id IN (SELECT unnest(?::VARCHAR[]))", [list(trial_ids)]
                )
            database.commit()

    def trials(self) -> list[Trial]:
        """All of them, in the order in which they ran. Raises ShardprofError for what holds no study."""
        if not self.path.exists():
            raise ShardprofError(f"{self.path}: no such results", "shardprof bench run STUDY.toml makes some")
        with self._opened(read_only=True) as database:
            return _trials(database)

    def export(self, folder: Path, form: str) -> list[Path]:
        """Write each table into `folder` as one of schema.FORMATS; the files."""
        options = "FORMAT parquet, COMPRESSION zstd" if form == "parquet" else "FORMAT csv, HEADER"
        files = [folder / f"{table}.{form}" for table in TABLES]
        with self._opened(read_only=True) as database:
            for table in TABLES:
                database.execute(f"FROM {table} LIMIT 0")  # all or nothing
            folder.mkdir(parents=True, exist_ok=True)
            for table, file in zip(TABLES, files, strict=True):
                database.execute(f"COPY (FROM {table}) TO '{quoted(file)}' ({options})")
        return files

    @contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        database = exported(self.path) if self.path.is_dir() else _patiently(self.path, read_only=read_only)
        try:
            if not read_only:
                create(database)
            yield database
        except duckdb.Error as error:
            raise self._failure(error, read_only=read_only) from error
        finally:
            database.close()

    def _failure(self, error: duckdb.Error, *, read_only: bool) -> ShardprofError:
        if read_only:
            return ShardprofError(f"{self.path} holds no study ({line_of(error)})", "name another")
        message = f"{self.path} cannot be written ({line_of(error)})"
        return ShardprofError(message, "make room on its disk: the same command goes on with what is left")


def store_in(path: Path) -> Store:
    """The results that a path means: a study's folder, its file, or an export."""
    return Store(path / RESULTS_FILE if (path / RESULTS_FILE).exists() else path)


def _patiently(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """The file, when whoever else has it open has done with it. Raises ShardprofError for what is no such file."""
    deadline = time.monotonic() + _WAIT_FOR_OTHERS_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=CONFIG)
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise ShardprofError(f"{path} cannot be opened ({line_of(error)})", "name a study's results") from error
            time.sleep(0.1)
        except duckdb.Error as error:
            raise ShardprofError(f"{path} holds no study ({line_of(error)})", "name a study's results") from error


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
    planned = planned_counts(database)
    rows = _named(database.execute("FROM trials ORDER BY started_ns, position"))
    return [
        replace(_trial(row, environments[row["trial_id"]], parts), planned=planned.get(row["trial_id"])) for row in rows
    ]


def _by_trial(database: duckdb.DuckDBPyConnection, table: str, kind: type[T]) -> dict[str, list[T]]:
    grouped: dict[str, list[T]] = defaultdict(list)
    for row in _named(database.execute(_READ.get(table, f"FROM {table} ORDER BY trial_id, step"))):
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
