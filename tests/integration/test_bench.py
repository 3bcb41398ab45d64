"""A study under the real command line: killed half-way it goes on, and what it measured is reported and exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]  # the study alone takes minutes

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "benchmarks" / "studies" / "smoke.toml"
SHARDPROF = str(Path(sys.executable).with_name("shardprof"))
POSTER = SMOKE.with_name("poster.toml")
VERDICTS = ("fits", "tight", "does not fit", "unknown")
CELLS = 6
KILLED_AFTER = 2
TIMEOUT_S = 600

Environment = Callable[..., dict[str, str]]


def bench(*arguments: str, environment: dict[str, str], exit_code: int = 0) -> str:
    done = subprocess.run(
        [SHARDPROF, "bench", *arguments], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == exit_code, done.stderr + done.stdout
    return done.stdout + done.stderr


def finished(store: Path) -> dict[str, int]:
    """When each training began, by name."""
    if not store.exists():
        return {}
    try:
        with duckdb.connect(str(store), read_only=True) as database:
            return dict(database.execute("SELECT trial_id, started_ns FROM trials").fetchall())
    except duckdb.Error:  # it is just being written
        return {}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, job_environment: Environment) -> Any:
    """The smoke study, killed while a training runs, then given again."""
    folder = tmp_path_factory.mktemp("study") / "smoke"
    environment = job_environment()
    command = [SHARDPROF, "bench", "run", str(SMOKE), "--out", str(folder)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + TIMEOUT_S
        while len(before := finished(folder / "results.duckdb")) < KILLED_AFTER:
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        time.sleep(2)  # into the next training
        family = psutil.Process(first.pid).children(recursive=True)
        os.kill(first.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    output = bench("run", str(SMOKE), "--out", str(folder), environment=environment)
    return folder, before, alive, output


def test_a_killed_study_takes_its_training_with_it_and_goes_on(study: Any) -> None:
    folder, before, alive, output = study
    assert not alive
    after = finished(folder / "results.duckdb")
    assert len(after) == CELLS
    assert before.items() <= after.items(), "what was finished is as it was"
    assert output.count("finished") == CELLS - len(before)


def test_nothing_is_left_to_run_then(study: Any, job_environment: Environment) -> None:
    folder, *_ = study
    output = bench("run", str(SMOKE), "--out", str(folder), environment=job_environment())
    assert "nothing is left to run: all 6 trainings are there" in output


def test_figures_are_measured_or_say_why_not(study: Any) -> None:
    folder, *_ = study
    with duckdb.connect(str(folder / "results.duckdb"), read_only=True) as database:
        rows = database.execute(
            "SELECT strategy, name, value, missing FROM figures JOIN trials USING (trial_id) JOIN metrics USING (name)"
        ).fetchall()
        per_trial = database.execute(
            "SELECT count(DISTINCT number) FROM figures JOIN metrics USING (name) GROUP BY trial_id"
        ).fetchall()
        ratios = database.execute("SELECT value FROM figures WHERE name = 'volume_ratio' AND part = 'per_expected'")
        assert [value for (value,) in ratios.fetchall()] == [pytest.approx(1, rel=0.01)] * CELLS
    assert per_trial == [(36,)] * CELLS
    assert all((value is None) == bool(missing) for _, _, value, missing in rows)
    measured = {name for _, name, value, _ in rows if value is not None}
    assert {"step_time", "throughput", "wire_bytes", "cpu_rss", "loss", "accuracy", "optimizer_time"} <= measured


def test_all_trainings_began_alike(study: Any) -> None:
    folder, *_ = study
    with duckdb.connect(str(folder / "results.duckdb"), read_only=True) as database:
        alike = database.execute(
            "SELECT ranks, count(DISTINCT workload->>'initial_weights'), count(DISTINCT workload->>'data_order'), "
            "max(loss) - min(loss) FROM trials JOIN losses USING (trial_id) WHERE step = 1 GROUP BY ALL ORDER BY ranks"
        ).fetchall()
    assert alike == [(2, 1, 1, pytest.approx(0, abs=1e-5)), (4, 1, 1, pytest.approx(0, abs=1e-5))]


@pytest.mark.parametrize("form", ["terminal", "markdown", "html", "json"])
def test_it_is_reported(study: Any, job_environment: Environment, form: str) -> None:
    folder, *_ = study
    output = bench("report", str(folder), "--format", form, environment=job_environment())
    for strategy in ("ddp", "fsdp2-full", "fsdp2-hybrid", "zero2", "zero3"):
        assert strategy in output
    assert "small buckets" in output
    if form == "json":
        json.loads(output)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_export_is_reported_alike(study: Any, job_environment: Environment, tmp_path: Path, form: str) -> None:
    folder, *_ = study
    environment = job_environment()
    bench("export", str(folder), "--format", form, "--out", str(tmp_path / form), environment=environment)
    exported = bench("report", str(tmp_path / form), "--format", "markdown", environment=environment)
    assert exported == bench("report", str(folder), "--format", "markdown", environment=environment)


def test_a_dry_run_says_what_fits_and_runs_nothing(job_environment: Environment, tmp_path: Path) -> None:
    dry_run = ("--dry-run", "--out", str(tmp_path / "study"))
    output = bench("run", str(SMOKE), *dry_run, environment=job_environment())
    assert output.count("fits") == CELLS
    assert "6 trainings left to run" in " ".join(output.split())
    output = bench("run", str(POSTER), *dry_run, "--memory", "16GiB", environment=job_environment(), exit_code=2)
    assert {"fits", "does not fit"} == {words for words in VERDICTS if f" {words}\n" in output}
    assert "cannot be run here" in output
    assert not (tmp_path / "study").exists()


CIFAR = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
FAILING = """\
[study]
name = "failing"
device = "cpu"
repeats = 1
steps = 14
warm_up = 3
captured = 2
threads = 1
timeout_s = 60
data = "DATA"

[matrix]
strategy = ["ddp"]
ranks = [2]
batch_size = [8]
"""


def test_a_training_that_fails_is_a_result_and_can_be_tried_again(job_environment: Environment, tmp_path: Path) -> None:
    """CIFAR-10's files are there, and what is in them is not CIFAR-10."""
    for name in CIFAR:
        (tmp_path / "cifar-10-batches-py").mkdir(exist_ok=True)
        (tmp_path / "cifar-10-batches-py" / name).write_text("words")
    study = tmp_path / "failing.toml"
    study.write_text(FAILING.replace("DATA", str(tmp_path)))
    run = ("run", str(study), "--out", str(tmp_path / "study"))
    environment = job_environment()
    assert "failed  ddp fp32, vit_small, batch 8, 2 ranks, repeat 1: vit: no CIFAR-10 in" in bench(
        *run, environment=environment, exit_code=1
    )
    output = bench(*run, environment=environment, exit_code=1)
    assert "nothing is left to run" in output
    assert "1 of 1 training did not finish; --retry-failed" in output
    for options, left in [((), "0 trainings left"), (("--retry-failed",), "1 training left")]:
        assert left in bench(*run, "--dry-run", *options, environment=environment)
    assert "vit: no CIFAR-10 in" in bench("report", str(tmp_path / "study"), environment=environment)
    assert "failed  ddp" in bench(*run, "--retry-failed", environment=environment, exit_code=1)


def test_a_rank_that_is_killed_at_its_work_is_told_as_such(job_environment: Environment, tmp_path: Path) -> None:
    study, folder = tmp_path / "killed.toml", tmp_path / "study"
    study.write_text(FAILING.replace("DATA", "digits").replace("steps = 14", "steps = 100000"))
    command = [SHARDPROF, "bench", "run", str(study), "--out", str(folder)]
    with subprocess.Popen(command, env=job_environment(), stdout=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + TIMEOUT_S
        while not any("step " in path.read_text() for path in folder.glob("trials/*/output.0.txt")):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ranks = [one for one in psutil.Process(running.pid).children(recursive=True) if is_rank(one)]
        ranks[-1].kill()
        output, _ = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 1
    assert "repeat 1: a rank was killed (signal 9)\n" in output


def is_rank(process: psutil.Process) -> bool:
    """Of the workload, and not of who launches it."""
    try:
        return "RANK" in process.environ() and "shardprof.study.workloads.vit" in process.cmdline()
    except psutil.Error:
        return False


def test_what_cannot_be_run_is_refused_before_anything_starts(job_environment: Environment, tmp_path: Path) -> None:
    study = tmp_path / "wrong.toml"
    study.write_text(FAILING.replace("DATA", str(tmp_path)))
    output = bench("run", str(study), "--out", str(tmp_path / "study"), environment=job_environment(), exit_code=2)
    assert f"shardprof: {study}, line 10: no CIFAR-10 in {tmp_path}: it has no folder cifar-10-batches-py; " in output
    assert not (tmp_path / "study").exists()


TWO_NODES = """\
[study]
name = "two-nodes"
device = "cpu"
launcher = "LAUNCHER"
repeats = 1
steps = 8
warm_up = 2
captured = 2
threads = 1
timeout_s = 120

[matrix]
strategy = ["zero1"]
ranks = [2]
nodes = [2]
batch_size = [8]
"""


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_several_nodes_train_together(job_environment: Environment, tmp_path: Path, launcher: str) -> None:
    """Both are this machine, under two names; `env` starts a command as a shell of another node would."""
    study, folder = tmp_path / "two.toml", tmp_path / "study"
    study.write_text(TWO_NODES.replace("LAUNCHER", launcher))
    hosts = ("--hosts", "127.0.0.1,localhost", "--shell", "env", "--fabric", "200Mbit/s")
    output = bench("run", str(study), "--out", str(folder), *hosts, environment=job_environment())
    assert "finished  zero1 fp32, vit_small, batch 8, 2 ranks on 2 nodes" in output
    with duckdb.connect(str(folder / "results.duckdb"), read_only=True) as database:
        assert database.execute("SELECT fabric_bytes_per_s FROM trials").fetchall() == [(25e6,)]
        ratio = "SELECT value FROM figures WHERE name = 'volume_ratio' AND part = 'per_theory'"
        assert database.execute(ratio).fetchall() == [(pytest.approx(1.5, rel=0.01),)]
    assert len(list(folder.glob("trials/*/run/hosts/*"))) == 2


def test_more_nodes_than_hosts_are_refused(job_environment: Environment, tmp_path: Path) -> None:
    study = tmp_path / "two.toml"
    study.write_text(TWO_NODES.replace("LAUNCHER", "torchrun"))
    output = bench("run", str(study), "--out", str(tmp_path / "out"), environment=job_environment(), exit_code=2)
    assert f"{study}, line 15: 2 nodes, and no hosts are named; name as many with --hosts" in output
