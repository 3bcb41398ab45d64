"""The report that is kept: when it is used, when it is made anew, that it is the same, and what must not harm it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shardprof
from shardprof import cli
from shardprof.analysis.cache import report_of
from shardprof.analysis.report import analyse
from shardprof.render import FolderOutput, formats, output
from shardprof.trace import fingerprint
from shardprof.trace.run import CACHE_FOLDER, load
from tests.conftest import Trace, distributed_info

Report = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]
Call = Callable[..., tuple[int, str]]

CHECKOUT = Path(__file__).parents[2]
RECORDED = sorted(path.name for path in (CHECKOUT / "traces").iterdir() if (path / "run.json").exists())
WITHOUT_CACHE = shutil.ignore_patterns(CACHE_FOLDER)
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES") or CHECKOUT.parent / "shared" / "traces")
PUBLIC_FILES = sorted(str(file.relative_to(PUBLIC)) for file in PUBLIC.rglob("*.json.gz"))


@pytest.fixture(autouse=True)
def _cache_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDPROF_CACHE")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line; its exit code and all that it wrote."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = cli.main(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def made(rank: int = 0, kernel_ns: int = 10) -> Trace:
    trace = Trace(distributed_info(rank, [0, 1])).step(1, 0, 100)
    return trace.launch(1, 5).kernel("gemm", 10, 10 + kernel_ns, correlation=1)


def compute_ns(report: dict[str, Any]) -> int:
    value: int = report["ranks"][0]["total"]["compute_ns"]
    return value


def swap(file: Path, content: bytes) -> None:
    """Other bytes that nothing but reading them tells from those that were there."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def shorten(file: Path) -> None:
    """A kernel of 10 ns becomes one of 20 ns."""
    text = file.read_text()
    assert text.count('"dur": 0.01') == 1
    swap(file, text.replace('"dur": 0.01', '"dur": 0.02').encode())


def kept_file(place: Path) -> Path:
    (file,) = (place if place.is_dir() else place.parent).joinpath(CACHE_FOLDER).iterdir()
    return file


# When it is used.


def test_a_second_report_does_not_read(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    first = report(file)
    shorten(file)
    assert compute_ns(first) == 10
    assert report(file) == first
    kept_file(file).unlink()
    assert compute_ns(report(file)) == 20


def test_a_second_report_of_a_folder_does_not_read(tmp_path: Path, report: Report) -> None:
    for rank in (0, 1):
        made(rank).write(tmp_path / f"rank{rank}.json")
    first = report(tmp_path)
    shorten(tmp_path / "rank0.json")
    assert report(tmp_path) == first
    assert kept_file(tmp_path).name == "report.json"
    assert compute_ns(report(tmp_path / "rank0.json")) == 20  # the file's own is another


def test_jobs_and_memory_do_not_change_a_report(tmp_path: Path, report: Report, call: Call) -> None:
    file = made().write(tmp_path / "trace.json")
    report(file)
    shorten(file)
    code, text = call(file, "--jobs", "1", "--memory", "1G", "--format", "json")
    assert (code, compute_ns(json.loads(text))) == (0, 10)


def test_python_gets_it_too(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    report(file)
    shorten(file)
    (rank,) = shardprof.load(file).result.ranks
    assert rank.total is not None
    assert rank.total.compute_ns == 10


def test_several_paths(tmp_path: Path, report: Report) -> None:
    files = [made(rank).write(tmp_path / f"node{rank}" / "trace.json") for rank in (0, 1)]
    first = report(*files)
    shorten(files[0])
    assert report(*files) == first
    assert compute_ns(report(files[0])) == 20
    assert not (tmp_path / "node1" / CACHE_FOLDER).exists()


# When it is made anew.


def test_a_trace_that_changed_is_read(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    assert compute_ns(report(file)) == 10
    shorten(file)
    os.utime(file, ns=(1, 1))
    assert compute_ns(report(file)) == 20
    made(kernel_ns=1000).write(file)
    os.utime(file, ns=(1, 1))
    assert compute_ns(report(file)) == 1000


def test_a_trace_that_came_or_went_changes_a_folder(tmp_path: Path, report: Report) -> None:
    made(0).write(tmp_path / "rank0.json")
    assert len(report(tmp_path)["ranks"]) == 1
    second = made(1).write(tmp_path / "rank1.json")
    assert len(report(tmp_path)["ranks"]) == 2
    second.unlink()
    assert len(report(tmp_path)["ranks"]) == 1


def test_each_file_of_a_recorded_run_changes_it(tmp_path: Path, report: Report) -> None:
    run = tmp_path / "run"
    shutil.copytree(CHECKOUT / "traces" / RECORDED[0], run, ignore=WITHOUT_CACHE)
    report(run)
    files = [file for file in run.rglob("*") if file.is_file() and CACHE_FOLDER not in file.parts]
    assert {"run.json", "rank.json", "steps.jsonl", "trace.json.gz"} <= {file.name for file in files}
    for file in files:
        before = kept_file(run).read_bytes()
        os.utime(file, ns=(1, 1))
        report(run)
        assert kept_file(run).read_bytes() != before, file


@pytest.mark.parametrize("option", [["--max-size", "1G"], ["--rank-regex", "x(1)"]])
def test_options_that_change_what_is_read(option: list[str], tmp_path: Path, call: Call) -> None:
    file = made().write(tmp_path / "trace.json")
    assert compute_ns(json.loads(call(file, "--format", "json")[1])) == 10
    shorten(file)
    assert compute_ns(json.loads(call(file, *option, "--format", "json")[1])) == 20


def test_another_name_of_the_same_trace_is_told(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made().write(tmp_path / "trace.json")
    report(file)
    monkeypatch.chdir(tmp_path)
    assert report(Path("trace.json"))["source"]["paths"] == ["trace.json"]
    file.rename(tmp_path / "renamed.json")
    assert report(Path("renamed.json"))["source"]["paths"] == ["renamed.json"]


def test_another_shardprof_reads(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(fingerprint._version.cache_clear)
    file = made().write(tmp_path / "trace.json")
    report(file)
    shorten(file)
    other = tmp_path / "shardprof"
    (other / "trace").mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "trace" / "steps.py").write_text("1")
    monkeypatch.setattr(shardprof, "__file__", str(other / "__init__.py"))
    fingerprint._version.cache_clear()
    assert compute_ns(report(file)) == 20
    swap(file, file.read_bytes().replace(b'"dur": 0.02', b'"dur": 0.03'))
    assert compute_ns(report(file)) == 20
    (other / "trace" / "steps.py").write_text("22")
    fingerprint._version.cache_clear()
    assert compute_ns(report(file)) == 30


def test_switched_off_it_neither_writes_nor_reads(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made().write(tmp_path / "trace.json")
    monkeypatch.setenv("SHARDPROF_CACHE", "0")
    report(file)
    assert not (tmp_path / CACHE_FOLDER).exists()
    monkeypatch.delenv("SHARDPROF_CACHE")
    report(file)
    shorten(file)
    monkeypatch.setenv("SHARDPROF_CACHE", "0")
    assert compute_ns(report(file)) == 20


# That it is the same.


def both(path: Path) -> tuple[Any, Any]:
    """The report as it is computed, and as it is kept."""
    computed = report_of(load([path]))
    file = kept_file(path)
    before = file.stat().st_mtime_ns, file.read_bytes()
    kept = report_of(load([path]))
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before  # it was not written again
    return computed, kept


def assert_kept_is_computed(path: Path, call: Call) -> None:
    computed, kept = both(path)
    assert kept == computed == analyse(load([path]))
    for form in (form for form in formats() if not isinstance(output(form), FolderOutput)):
        with_cache = call(path, "--format", form)
        kept_file(path).unlink()
        assert call(path, "--format", form) == with_cache
        assert with_cache[0] == 0


@pytest.mark.skipif(not PUBLIC_FILES, reason=f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")
@pytest.mark.parametrize("name", PUBLIC_FILES)
def test_public_traces(name: str, tmp_path: Path, call: Call) -> None:
    assert_kept_is_computed(Path(shutil.copy(PUBLIC / name, tmp_path)), call)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_runs(name: str, tmp_path: Path, call: Call) -> None:
    shutil.copytree(CHECKOUT / "traces" / name, tmp_path / name, ignore=WITHOUT_CACHE)
    assert_kept_is_computed(tmp_path / name, call)


@pytest.mark.parametrize(
    "header",
    [
        {"baseTimeNanoseconds": 10**40},
        {"distributedInfo": {"rank": 0, "world_size": 10**30}},
        {"distributedInfo": {"rank": 0, "world_size": 2, "pg_config": [{"pg_name": "\ud800", "ranks": [0]}]}},
        {"deviceProperties": [{"name": "\ud800"}]},
        {"deviceProperties": [{"name": 1e999}]},
    ],
    ids=str,
)
def test_odd_headers(header: dict[str, Any], tmp_path: Path, call: Call) -> None:
    trace = made()
    trace.header = header
    file = trace.write(tmp_path / "trace.json")
    first = call(file, "--format", "json")
    assert first[0] == 0
    assert call(file, "--format", "json") == first


@pytest.mark.parametrize("settings", ['{"a": NaN}', '{"a": Infinity, "b": [1.0, 1, null]}', '{"a": 1e30, "b": 10}'])
def test_odd_settings_of_a_run(settings: str, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "run"
    shutil.copytree(CHECKOUT / "traces" / RECORDED[0], run, ignore=WITHOUT_CACHE)
    for file in run.glob("ranks/*/rank.json"):
        text = json.dumps({**json.loads(file.read_text()), "settings": "SETTINGS"})
        file.write_text(text.replace('"SETTINGS"', settings))
    first = call(run, "--format", "json")
    assert first[0] == 0
    assert call(run, "--format", "json") == first


# What must not harm it.


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\n",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"compute_ns":10', b'"compute_ns":11'),
        lambda data: data.partition(b"\n")[0] + b"\n{}",
        lambda data: data.partition(b"\n")[0] + b"\n" + b"[" * 100_000,
        lambda data: b"\xff" * 100,
        lambda data: data.partition(b"\n")[2],
    ],
)
def test_a_damaged_one_is_made_anew(damage: Callable[[bytes], bytes], tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    first = report(file)
    kept = kept_file(file)
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert kept.read_bytes() != good
    assert report(file) == first
    assert kept.read_bytes() == good


def test_what_stands_in_its_place(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    (tmp_path / CACHE_FOLDER / "trace.json.json" / "folder").mkdir(parents=True)
    assert compute_ns(report(file)) == 10
    assert sorted(path.name for path in (tmp_path / CACHE_FOLDER).iterdir()) == ["trace.json.json"]
    shutil.rmtree(tmp_path / CACHE_FOLDER)
    (tmp_path / CACHE_FOLDER).write_text("a file")
    assert compute_ns(report(file)) == 10
    (tmp_path / CACHE_FOLDER).unlink()
    (tmp_path / CACHE_FOLDER).mkdir()
    os.mkfifo(tmp_path / CACHE_FOLDER / "trace.json.json")
    assert compute_ns(report(file)) == 10


def test_a_link_leads_nowhere(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "traces" / "trace.json")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "trace.json.json").write_text("mine")
    (tmp_path / "traces" / CACHE_FOLDER).symlink_to(elsewhere)
    report(file)
    assert [(path.name, path.read_text()) for path in elsewhere.iterdir()] == [("trace.json.json", "mine")]


@pytest.mark.parametrize("locked", ["", CACHE_FOLDER])
def test_a_folder_that_nobody_may_write_to(locked: str, tmp_path: Path, report: Report) -> None:
    folder = tmp_path / "traces"
    file = made().write(folder / "trace.json")
    if locked:
        (folder / CACHE_FOLDER).mkdir()
    (folder / locked).chmod(0o555)
    try:
        assert compute_ns(report(file)) == 10
        assert [path.name for path in folder.rglob("*")] == (["trace.json", locked] if locked else ["trace.json"])
    finally:
        (folder / locked).chmod(0o755)


def test_a_report_that_failed_is_not_kept(tmp_path: Path, refusal: Refusal) -> None:
    file = tmp_path / "trace.json"
    file.write_text("{}")
    refusal(file)
    for name in ("a", "b"):
        made(0).write(tmp_path / "twice" / f"{name}.json")
    refusal(tmp_path / "twice")
    assert not list(tmp_path.rglob(CACHE_FOLDER))


def test_what_could_not_be_read_is_tried_again(tmp_path: Path, call: Call) -> None:
    for rank in (0, 1):
        made(rank).write(tmp_path / f"rank{rank}.json")
    big = made(1)
    big.header["padding"] = "x" * 100_000
    big.write(tmp_path / "rank1.json")
    small = json.loads(call(tmp_path, "--max-size", "50K", "--format", "json")[1])
    assert [rank["rank"] for rank in small["ranks"]] == [0]
    assert not (tmp_path / CACHE_FOLDER).exists()


def test_a_folder_of_traces_does_not_count_what_is_kept(tmp_path: Path, report: Report) -> None:
    made().write(tmp_path / "trace.json")
    report(tmp_path / "trace.json")
    found = report(tmp_path)
    assert len(found["ranks"]) == 1
    assert "unreadable_trace" not in {doubt["code"] for doubt in found["quality"]}
    assert sorted(path.name for path in (tmp_path / CACHE_FOLDER).iterdir()) == ["report.json", "trace.json.json"]


def test_what_is_far_away_is_not_kept(tmp_path: Path, report: Report) -> None:
    file = made().write(tmp_path / "trace.json")
    report(file.as_uri())
    report(file, made(1).write(tmp_path / "b" / "rank1.json").as_uri())
    assert not list(tmp_path.rglob(CACHE_FOLDER))


def test_names_of_any_bytes(tmp_path: Path, call: Call) -> None:
    for name in (b"a trace.json", b"\xff\xfe.json", b"%20.json", "größe.json".encode()):
        file = made().write(tmp_path / os.fsdecode(name))
        first = call(file, "--format", "json")
        assert first[0] == 0
        assert call(file, "--format", "json") == first


def test_many_reports_at_once(tmp_path: Path) -> None:
    file = made().write(tmp_path / "trace.json")
    command = [sys.executable, "-m", "shardprof", "report", str(file), "--format", "json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT) for _ in range(4)]
    written = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert len(set(written)) == 1
    assert compute_ns(json.loads(written[0])) == 10
    assert kept_file(file).name == "trace.json.json"


def test_what_is_made_of_a_run_is_none_of_its_inputs_wherever_it_lies(tmp_path: Path) -> None:
    run = tmp_path / "tensorboard" / "wandb" / "run"
    shutil.copytree(CHECKOUT / "traces" / RECORDED[0], run, ignore=WITHOUT_CACHE)
    before = load([run]).inputs()
    assert run / "run.json" in before
    for folder in ("tensorboard", "wandb", CACHE_FOLDER):
        (run / folder).mkdir()
        (run / folder / "made").write_text("of the run")
    assert load([run]).inputs() == before
