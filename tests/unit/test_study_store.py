"""Results come back from the file, and from every export of it, as they went in."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from shardprof.errors import ShardprofError
from shardprof.study.metrics import METRICS
from shardprof.study.results import FAILED, FINISHED, Accuracy, Figure, Loss, Measurement, StepTime, Trial
from shardprof.study.schema import FORMATS
from shardprof.study.store import Store
from tests.unit import studies

FULL = Measurement(
    figures=(
        Figure(name="step_time", part="p50", value=12.5, unit="ms"),
        Figure(name="mfu", value=None, unit="%", missing='it\'s, "no" GPU'),
    ),
    steps=(StepTime(step=0, wall_ns=2**53 + 1, counts=False), StepTime(step=1, wall_ns=5, counts=True)),
    losses=(
        Loss(step=1, samples=8, at_ns=10**18 + 1, loss=2.3),
        Loss(step=2, samples=16, at_ns=3, loss=0.1, skipped=True),
    ),
    accuracies=(Accuracy(step=2, samples=16, at_ns=4, accuracy=0.25),),
    workload={"parameters": 7, "betas": [0.9, 0.999], "shapes": [[1, 2], [3]]},
    report=studies.report(compute=3.0),
)


def trial(**fields: Any) -> Trial:
    plain = studies.trial(studies.cell("zero2", knobs="small buckets"))
    return replace(plain, **({"measurement": FULL} | fields))


TRIALS = [
    trial(
        trial_id="a-0",
        environment={"torch": "2.13.0", "variable EMPTY": ""},
        knobs={"overlap": True},
        fabric_bytes_per_s=6.25e6,
        started_ns=10,
    ),
    trial(trial_id="b-0", status=FAILED, reason="ValueError: x", measurement=Measurement(), started_ns=20),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results.duckdb")
    for one in TRIALS:
        made.add(one)
    return made


def test_trials_come_back_as_they_went_in(store: Store) -> None:
    assert store.statuses() == {"a-0": FINISHED, "b-0": FAILED}
    assert store.trials() == TRIALS


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_read_like_the_file(store: Store, tmp_path: Path, form: str) -> None:
    files = store.export(tmp_path / "it's exported", form)
    assert all(file.exists() for file in files)
    assert Store(tmp_path / "it's exported").trials() == TRIALS


def test_steps_that_took_no_time_are_not_read(store: Store) -> None:
    with duckdb.connect(str(store.path)) as database:
        database.execute("UPDATE steps SET wall_ns = -1 WHERE step = 0")
        database.execute("INSERT INTO steps VALUES ('a-0', 2, 0, true), ('a-0', 3, NULL, true)")
    assert store.trials()[0].measurement.steps == FULL.steps[1:]


def test_what_figures_mean_stands_beside_them(store: Store) -> None:
    with duckdb.connect(str(store.path), read_only=True) as database:
        rows = database.execute("SELECT name, number, unit FROM metrics ORDER BY number").fetchall()
    assert sorted(rows) == sorted((metric.name, metric.number, metric.unit) for metric in METRICS)
    assert {number for _, number, _ in rows} == set(range(1, 37))


def test_trials_can_be_forgotten_and_run_again(store: Store) -> None:
    before = store.path.stat().st_mtime_ns
    store.forget(())
    assert store.path.stat().st_mtime_ns == before
    store.forget({"b-0", "of another study"})
    assert store.statuses() == {"a-0": FINISHED}
    store.add(TRIALS[1])
    assert store.trials() == TRIALS


def test_a_trial_is_written_as_a_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(ShardprofError, match="cannot be written"):
        store.add(trial(trial_id="a-0"))  # there already
    assert store.trials() == TRIALS
    with duckdb.connect(str(store.path), read_only=True) as database:
        assert database.execute("SELECT count(*) FROM figures").fetchone() == (2,)


KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from typing import Any
from shardprof.study import store as stores
from tests.unit.test_study_store import trial
real = stores._insert
def insert(database, table, rows):
    real(database, table, rows)
    if table == "steps":
        os.kill(os.getpid(), 9)
stores._insert = insert
stores.Store(Path(sys.argv[1])).add(trial(trial_id="c-0"))
"""


def test_a_study_that_is_killed_while_it_writes_loses_only_that_trial(store: Store) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(store.path)]
    assert subprocess.run(command, env=environment, timeout=60).returncode == -9
    assert store.trials() == TRIALS
    store.add(trial(trial_id="c-0", started_ns=30))
    assert store.statuses().keys() == {"a-0", "b-0", "c-0"}


FULL_DISK = """
import random, resource, sys
from pathlib import Path
from shardprof.errors import ShardprofError
from shardprof.study.results import Measurement, StepTime
from shardprof.study.store import Store
from tests.unit.test_study_store import trial
drawn = random.Random(0)
steps = [StepTime(step=step, wall_ns=drawn.getrandbits(62), counts=True) for step in range(200_000)]
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size, resource.RLIM_INFINITY))
try:
    store.add(trial(trial_id="c-0", measurement=Measurement(steps=tuple(steps))))
except ShardprofError as error:
    sys.exit(str(error))
"""


def test_a_file_that_cannot_grow_is_told_and_what_was_written_stays(store: Store) -> None:
    """A limit of a process's files fails as a full disk does."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", FULL_DISK, str(store.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"{store.path} cannot be written")
    assert "make room on its disk" in done.stderr
    assert store.trials() == TRIALS


def test_a_file_without_tables_is_a_study_without_trials_yet(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.duckdb")
    duckdb.connect(str(store.path)).close()
    assert store.statuses() == {}
    for asked in (store.trials, lambda: store.export(tmp_path / "out", "csv")):
        with pytest.raises(ShardprofError, match="holds no study"):
            asked()
    assert not (tmp_path / "out").exists()
    store.add(TRIALS[0])
    assert store.trials() == TRIALS[:1]


def test_what_holds_no_study_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.execute("CREATE TABLE t (a INTEGER)")
    for path, message in [
        (tmp_path / "absent.duckdb", "no such results"),
        (tmp_path / "notes.txt", "notes.txt"),
        (tmp_path / "other.duckdb", "holds no study"),
        (tmp_path, "holds no study"),
    ]:
        with pytest.raises(ShardprofError, match=message):
            Store(path).trials()
