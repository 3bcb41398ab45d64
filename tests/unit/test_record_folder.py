"""The recorder's side of the run folder: what may be remembered, who joins whom, what the end says."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.recording import environment, inject, join, node, summary
from shardprof.recording.rank import compress
from shardprof.recording.record_file import RankFile
from shardprof.trace.schema import (
    CapturePlan,
    Outcome,
    ProcessGroup,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    Window,
    from_json,
    read_whole,
    to_json,
    write_whole,
)

COMMAND = ("torchrun", "train.py")
PLAN = CapturePlan()


def rank_record(rank: int, **changes: object) -> RankRecord:
    record = RankRecord(
        rank=rank, world_size=2, local_rank=rank, host="a", pid=1, device="cpu", started_ns=0, versions={"torch": "2"}
    )
    return dataclasses.replace(record, **changes)


def write_rank(run: RunFolder, record: RankRecord, steps: list[StepRecord]) -> None:
    run.rank(record.rank).mkdir(parents=True)
    write_whole(run.rank(record.rank) / "rank.json", record)
    (run.rank(record.rank) / "steps.jsonl").write_text("".join(f"{to_json(step)}\n" for step in steps))


def finish_host(run: RunFolder, name: str, exit_code: int) -> None:
    host = node.describe(name)
    write_whole(
        run.host(name) / "host.json",
        dataclasses.replace(host, outcome=Outcome(exit_code=exit_code, ended_ns=5)),
    )


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "NCCL_AUTH_TOKEN", "PATH", "HOME", "MY_NCCL_X"])
def test_what_may_be_secret_is_not_remembered(name: str) -> None:
    assert environment.allowed({name: "x"}) == {}


def test_what_changes_performance_is_remembered() -> None:
    variables = {"NCCL_ALGO": "Ring", "OMP_NUM_THREADS": "1", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
    assert environment.allowed({**variables, "USER": "x"}) == variables


@pytest.mark.parametrize(
    ("command", "launcher"),
    [
        (("/usr/bin/torchrun", "train.py"), "torchrun"),
        (("python3", "-m", "torch.distributed.run", "train.py"), "torch.distributed.run"),
        (("python", "train.py", "-m", "torch.distributed.run"), "torch.distributed.run"),
        (("python3.11", "-m", "mymodule"), "python"),
        (("python", "train.py"), "python"),
        (("python", "-m"), "python"),
        (("deepspeed", "train.py"), "deepspeed"),
    ],
)
def test_the_launcher_is_named(command: tuple[str, ...], launcher: str) -> None:
    assert join.launcher_of(command) == launcher


def test_a_live_run_is_joined_under_another_name(tmp_path: Path) -> None:
    first = join.join_run(tmp_path / "run", COMMAND, PLAN)
    name = join.claim_host(first)
    write_whole(first.host(name) / "host.json", node.describe(name))
    second = join.join_run(tmp_path / "run", COMMAND, PLAN)
    assert second.root == first.root
    assert join.claim_host(second) == f"{name}-2"


def test_a_run_that_is_over_is_left_alone(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    name = join.claim_host(run)
    finish_host(run, name, 0)
    assert summary.complete(run).outcome is not None
    before = run.run_file.read_bytes()
    assert join.join_run(tmp_path / "run", COMMAND, PLAN).root == tmp_path / "run-2"
    assert run.run_file.read_bytes() == before


def test_a_run_whose_recorder_was_killed_is_left_alone(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    name = join.claim_host(run)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    write_whole(run.host(name) / "host.json", dataclasses.replace(node.describe(name), launcher_pid=pid))
    assert join.join_run(tmp_path / "run", COMMAND, PLAN).root == tmp_path / "run-2"


def test_another_machine_is_alive_while_it_samples(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    write_whole(folder / "host.json", dataclasses.replace(node.describe("other"), identity="other/boot/net"))
    assert node.is_alive(folder)
    long_ago = time.time() - 3600
    os.utime(folder / "host.json", (long_ago, long_ago))
    assert not node.is_alive(folder)
    (folder / "counters.jsonl").write_text("")
    assert node.is_alive(folder)


def test_the_last_recorder_completes_the_run(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    first, second = join.claim_host(run), join.claim_host(run)
    group = ProcessGroup(name="0", description="default_pg", backend="gloo", ranks=(0, 1))
    write_rank(run, rank_record(0, process_groups=(group,), dropped_records=2), [])
    write_rank(run, rank_record(1, process_groups=(group,)), [])
    finish_host(run, first, 0)
    assert summary.complete(run).outcome is None
    finish_host(run, second, 9)
    record = summary.complete(run)
    assert record.outcome == Outcome(exit_code=9, ended_ns=5)
    assert (record.ranks, record.hosts, record.dropped_records) == ((0, 1), (first, second), 2)
    assert record.process_groups == (group,)
    assert record == read_whole(RunRecord, run.run_file) == summary.complete(run)


def test_the_always_on_share_leaves_the_profilers_steps_out(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    steps = [
        StepRecord(
            step=step,
            begin_ns=step * 1000,
            end_ns=(step + 1) * 1000,
            captured=7 <= step <= 11,
            profiling=5 <= step <= 11,
            hook_ns=10 if step in (2, 3, 4, 13, 14) else 900,
        )
        for step in range(15)
    ]
    write_rank(run, rank_record(0), steps)  # a window without a whole step is not in the record
    assert summary.complete(run).always_on_share == pytest.approx(0.01)


def test_a_rank_that_was_killed_early_is_no_obstacle(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    finish_host(run, join.claim_host(run), 1)
    run.rank(3).mkdir(parents=True)
    (run.rank(0)).mkdir(parents=True)
    (run.rank(0) / "rank.json").write_text('{"rank": 0, "wor')
    record = summary.complete(run)
    assert record.ranks == ()
    assert "no rank was recorded" in next(summary.lines(run, record))


def test_a_job_without_a_step_end_is_told_what_helps(tmp_path: Path) -> None:
    run = join.join_run(tmp_path / "run", COMMAND, PLAN)
    write_rank(run, rank_record(0), [])
    text = "\n".join(summary.lines(run, summary.complete(run)))
    assert "shardprof.step()" in text
    assert "--steps" not in text


def test_failures_in_the_job_are_noted_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.host("a").mkdir(parents=True)
    text = '{"pid": 1, "text": "Traceback\\n  line\\nValueError: odd"}\n'
    (run.host("a") / inject.AGENT_LOG).write_text(text * 3)
    assert summary.agent_notes(run, "a") == ("in the job: ValueError: odd",)


def test_the_bootstrap_is_first_on_the_path(tmp_path: Path) -> None:
    assert inject.environment_with(tmp_path, {})["PYTHONPATH"] == str(tmp_path)
    assert inject.environment_with(tmp_path, {"PYTHONPATH": "/x:/y"})["PYTHONPATH"] == f"{tmp_path}:/x:/y"


def test_a_rank_file_is_whole_after_each_change(tmp_path: Path) -> None:
    file = RankFile(tmp_path / "rank.json", rank_record(0))
    file.note("odd")
    file.note("odd")
    file.dropped("lost")
    plain = Window(first_step=1, last_step=2, file="trace.json")
    file.put_window(plain)
    file.put_window(dataclasses.replace(plain, file="trace.json.gz"), instead_of=plain)
    record = read_whole(RankRecord, tmp_path / "rank.json")
    assert record == file.record
    assert record.notes == ("odd", "lost")
    assert record.dropped_records == 1
    assert [window.file for window in record.windows] == ["trace.json.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["rank.json"]


@given(data=st.binary(max_size=5000))
def test_compressing_keeps_every_byte(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    path.write_bytes(data)
    packed = compress.compress(path)
    assert gzip.decompress(packed.read_bytes()) == data
    assert [file.name for file in path.parent.iterdir()] == ["trace.json.gz"]


def test_a_trace_that_cannot_be_compressed_stays(tmp_path: Path) -> None:
    failures: list[Path] = []
    compressor = compress.Compressor(lambda _plain, _packed: None, lambda path, _error: failures.append(path))
    compressor.put(tmp_path / "missing.json", wait=False)
    compressor.join()
    assert failures == [tmp_path / "missing.json"]


def test_a_record_survives_its_json() -> None:
    record = rank_record(1, windows=(Window(first_step=1, last_step=2, file="x"),), settings={"mesh": [2]})
    assert from_json(RankRecord, json.loads(to_json(record))) == record
