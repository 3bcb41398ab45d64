"""What can be read: run folders, damaged ones too, folders of traces, files; and what is refused, in one line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import (
    CapturePlan,
    CounterRecord,
    HostRecord,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    Window,
    read_whole,
    to_json,
    write_whole,
)
from tests.conftest import BASE_NS, Trace, distributed_info

Report = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]


def some_trace(rank: int | None = 0, world_size: int = 1) -> Trace:
    header = {} if rank is None else distributed_info(rank, list(range(world_size)))
    return Trace(header).step(1, 0, 100).event("aten::mm", 10, 60)


def record_rank(root: Path, rank: int, host: str = "node-a", *, world_size: int = 2, steps: int = 3) -> Path:
    folder = RunFolder(root).rank(rank)
    some_trace(rank, world_size).write(folder / "trace.json.gz")
    record = RankRecord(
        rank=rank, world_size=world_size, local_rank=0, host=host, pid=1, device="cpu", started_ns=0, versions={}
    )
    write_whole(folder / "rank.json", record)
    lines = [to_json(StepRecord(step=n, begin_ns=n * 100, end_ns=n * 100 + 90)) for n in range(steps)]
    (folder / "steps.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def record_run(root: Path, ranks: dict[int, str], *, world_size: int = 2) -> Path:
    for rank, host in ranks.items():
        record_rank(root, rank, host, world_size=world_size)
    for host in set(ranks.values()):
        folder = RunFolder(root).host(host)
        folder.mkdir(parents=True)
        write_whole(
            folder / "host.json",
            HostRecord(name=host, identity=str(root), launcher_pid=1, cpu_count=2, memory_bytes=1),
        )
        samples = [(BASE_NS - 100, 0.0), (BASE_NS + 300, 4000.0 * (1 + min(ranks)))]
        counters = [
            CounterRecord(time_ns=time, source="host", values={"eth0": {"tx_bytes": sent, "rx_bytes": 2 * sent}})
            for time, sent in samples
        ]
        (folder / "counters.jsonl").write_text("".join(to_json(counter) + "\n" for counter in counters))
    plan = CapturePlan()
    write_whole(
        root / "run.json",
        RunRecord(command=("python", "train.py"), launcher="", started_ns=0, plan=plan, versions={}, environment={}),
    )
    return root


def codes(result: dict[str, Any]) -> list[str]:
    return [doubt["code"] for doubt in result["quality"]]


def test_a_run_folder(tmp_path: Path, report: Report) -> None:
    result = report(record_run(tmp_path, {0: "node-a", 1: "node-a"}))
    assert [(rank["rank"], rank["host"], len(rank["steps"])) for rank in result["ranks"]] == [
        (0, "node-a", 1),
        (1, "node-a", 1),
    ]
    assert result["source"]["kind"] == "run"
    assert result["source"]["command"] == "python train.py"
    (host,) = result["source"]["hosts"]
    assert (host["link_tx_bytes"], host["link_rx_bytes"]) == ({"eth0": 1000}, {"eth0": 2000})
    assert codes(result) == []


def test_the_newest_run_is_the_default(tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("new", "old")):
        record_run(tmp_path / "shardprof-runs" / name, {0: "node-a"}, world_size=1)
        os.utime(tmp_path / "shardprof-runs" / name / "run.json", (1000 - age, 1000 - age))
    monkeypatch.chdir(tmp_path)
    assert report()["source"]["paths"] == ["shardprof-runs/new"]


def test_a_folder_of_runs_names_the_newest(tmp_path: Path, refusal: Refusal) -> None:
    for age, name in enumerate(("new", "old")):
        record_run(tmp_path / name, {0: "node-a"}, world_size=1)
        os.utime(tmp_path / name / "run.json", (1000 - age, 1000 - age))
    assert str(tmp_path / "new") in refusal(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"schema": "shardprof.run/1"}', '{"plan": 3}'])
def test_without_its_run_json_a_run_is_still_a_run(content: str | None, tmp_path: Path, report: Report) -> None:
    record_run(tmp_path, {0: "node-a"}, world_size=1)
    (tmp_path / "run.json").unlink()
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    result = report(tmp_path)
    assert [rank["rank"] for rank in result["ranks"]] == [0]
    assert "run_record" in codes(result)


def test_without_its_rank_json_the_folder_tells_the_rank(tmp_path: Path, report: Report) -> None:
    (record_rank(tmp_path, 3) / "rank.json").unlink()
    some_trace(None).write(RunFolder(tmp_path).rank(3) / "trace.json.gz")
    assert [rank["rank"] for rank in report(tmp_path)["ranks"]] == [3]


def test_a_torn_last_line_of_the_steps_is_left_out(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path, 0, world_size=1)
    with (folder / "steps.jsonl").open("a") as steps:
        steps.write('{"step": 4, "begin_ns": 12')
    assert report(tmp_path)["ranks"][0]["always_on"]["steps"] == 3


def test_a_rank_without_a_trace_keeps_what_was_always_on(tmp_path: Path, report: Report) -> None:
    record_rank(tmp_path, 0)
    (record_rank(tmp_path, 1) / "trace.json.gz").unlink()
    result = report(tmp_path)
    assert [(rank["rank"], rank["device"], rank["total"] is None) for rank in result["ranks"]] == [
        (0, "cpu", False),
        (1, None, True),
    ]
    assert result["ranks"][1]["always_on"]["steps"] == 3
    messages = {doubt["code"]: doubt["message"] for doubt in result["quality"]}
    assert messages["nothing_captured"] == (
        "no step was captured on rank 1: it ended after 3 steps; record with --steps to capture earlier ones"
    )


def test_what_failed_beside_the_ranks_is_doubted(tmp_path: Path, report: Report) -> None:
    host = RunFolder(record_run(tmp_path, {0: "node-a"}, world_size=1)).host("node-a") / "host.json"
    write_whole(host, replace(read_whole(HostRecord, host), notes=("wandb gets no more steps: no network",)))
    doubts = report(tmp_path)["quality"]
    assert "wandb gets no more steps: no network" in [doubt["message"] for doubt in doubts]


def test_a_trace_that_was_not_compressed_in_time(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path, 0, world_size=1)
    (folder / "trace.json.gz").rename(folder / "compressed")
    some_trace().write(folder / "trace.json")
    assert len(report(tmp_path)["ranks"][0]["steps"]) == 1


def test_a_rank_json_nested_without_end_is_none(tmp_path: Path, report: Report) -> None:
    (record_rank(tmp_path, 3) / "rank.json").write_text("[" * 200_000)
    assert [rank["rank"] for rank in report(tmp_path)["ranks"]] == [3]


def test_a_damaged_trace_among_others_costs_itself(tmp_path: Path, report: Report) -> None:
    record_run(tmp_path, {0: "node-a", 1: "node-a"})
    (RunFolder(tmp_path).rank(1) / "trace.json.gz").write_bytes(b"\x1f\x8bgarbage")
    result = report(tmp_path)
    assert [len(rank["steps"]) for rank in result["ranks"]] == [1, 0]
    assert "unreadable_trace" in codes(result)


@pytest.mark.parametrize("hosts", [("node-a", "node-b"), ("node", "node")])
def test_the_folders_of_two_nodes_are_one_run(hosts: tuple[str, str], tmp_path: Path, report: Report) -> None:
    first = record_run(tmp_path / "a", {0: hosts[0]})
    second = record_run(tmp_path / "b", {1: hosts[1]})
    result = report(first, second)
    assert [rank["rank"] for rank in result["ranks"]] == [0, 1]
    assert [host["ranks"] for host in result["source"]["hosts"]] == [[0], [1]]
    assert [host["link_tx_bytes"] for host in result["source"]["hosts"]] == [{"eth0": 1000}, {"eth0": 2000}]
    assert len({rank["host"] for rank in result["ranks"]}) == 2
    assert codes(result) == []


def test_ranks_that_are_not_there_are_named(tmp_path: Path, report: Report) -> None:
    result = report(record_run(tmp_path, {2: "node-a"}, world_size=4))
    (doubt,) = (doubt for doubt in result["quality"] if doubt["code"] == "missing_ranks")
    assert doubt["count"] == 3
    assert doubt["message"] == "ranks 0, 1 and 3 of the job are not in this report"


def test_a_rank_that_is_not_there_is_no_count(tmp_path: Path, report: Report) -> None:
    result = report(record_run(tmp_path, {0: "node-a", 1: "node-a"}, world_size=3))
    (doubt,) = (doubt for doubt in result["quality"] if doubt["code"] == "missing_ranks")
    assert doubt["message"] == "rank 2 of the job is not in this report"


def test_a_header_may_claim_any_number_of_ranks(tmp_path: Path, report: Report) -> None:
    made = Trace({"distributedInfo": {"rank": 0, "world_size": 10**15}}).step(1, 0, 100).event("aten::mm", 10, 60)
    (doubt,) = (d for d in report(made.write(tmp_path / "t.json"))["quality"] if d["code"] == "missing_ranks")
    assert doubt["count"] == 10**15 - 1
    assert doubt["message"] == "ranks 1, 2, 3, 4, 5, 6, 7, 8 and others of the job are not in this report"


def test_traces_of_different_jobs_are_said_to_be(tmp_path: Path, report: Report) -> None:
    some_trace(0, 2).write(tmp_path / "a.json")
    some_trace(1, 4).write(tmp_path / "b.json")
    assert "different_jobs" in codes(report(tmp_path))


def test_the_windows_of_a_rank_add_up(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path, 0, world_size=2)
    for window, first in enumerate((1, 11)):
        made = Trace(distributed_info(0, [0, 1])).step(first, 0, 100).call("allreduce_", 5, [[1000]])
        name = "trace.json" if window == 0 else f"trace.{window}.json"
        made.transfer("all_reduce", 10, 20, 1000).write(folder / name)
    (folder / "trace.json.gz").unlink()
    result = report(tmp_path)
    assert [step["step"] for step in result["ranks"][0]["steps"]] == [1, 11]
    (row,) = result["collectives"]
    assert (row["calls"], row["payload_bytes"]) == (2, 8000)


def test_a_broken_line_of_the_right_form_is_left_out(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path, 0, world_size=1)
    with (folder / "steps.jsonl").open("a") as lines:
        lines.write('{"step": "x", "begin_ns": "a", "end_ns": "b"}\n{"step": 9, "begin_ns": 1, "end_ns": 2.5}\n')
    assert report(tmp_path)["ranks"][0]["always_on"]["steps"] == 3


def test_a_line_of_a_step_takes_the_place_of_its_parts(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path, 0, world_size=1, steps=3)
    with (folder / "steps.jsonl").open("a") as lines:  # the script's first shardprof.step(): all so far was step 0
        lines.write(to_json(StepRecord(step=0, begin_ns=0, end_ns=290)) + "\n")
    assert report(tmp_path)["ranks"][0]["always_on"]["steps"] == 1


def test_what_only_looks_like_a_rank_folder_is_none(tmp_path: Path, report: Report) -> None:
    record_run(tmp_path, {0: "node-a"}, world_size=1)
    (tmp_path / "ranks" / "00000.bak").mkdir()
    assert [rank["rank"] for rank in report(tmp_path)["ranks"]] == [0]


def test_records_that_cannot_be_read_are_one_line(tmp_path: Path, refusal: Refusal) -> None:
    folder = record_rank(tmp_path, 0, world_size=1)
    (folder / "steps.jsonl").unlink()
    (folder / "steps.jsonl").mkdir()
    assert "steps.jsonl" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["[]", "[1, 2, 3]", '[{"a": 1}, {"b": 2}]'])
def test_a_list_of_something_else_is_no_trace(content: str, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    assert "no list of events" in refusal(path)


@pytest.mark.parametrize(
    ("name", "rank"),
    [("rank3.json", 3), ("job_rank-12_0.json.gz", 12), ("worker7.json", 7), ("cpu_only_RANK_4.json", 4)],
)
def test_a_file_name_may_tell_the_rank(name: str, rank: int, tmp_path: Path, report: Report) -> None:
    result = report(some_trace(None).write(tmp_path / name))
    assert result["ranks"][0]["rank"] == rank
    assert codes(result) == []


def test_the_trace_knows_its_rank_better_than_its_name(tmp_path: Path, report: Report) -> None:
    assert report(some_trace(0).write(tmp_path / "rank3.json"))["ranks"][0]["rank"] == 0


def test_a_rank_that_nothing_tells_is_said_to_be_a_guess(tmp_path: Path, report: Report) -> None:
    made = Trace({"distributedInfo": {"backend": "gloo"}}).step(1, 0, 100).event("aten::mm", 10, 60)
    result = report(made.write(tmp_path / "frank3.json"))
    assert result["ranks"][0]["rank"] == 0
    assert codes(result) == ["rank_unknown"]


def test_a_single_process_needs_no_rank(tmp_path: Path, report: Report) -> None:
    assert codes(report(some_trace(None).write(tmp_path / "single.json"))) == []


def test_a_guessed_rank_never_takes_a_known_one(tmp_path: Path, report: Report) -> None:
    some_trace(None).write(tmp_path / "a.json")
    some_trace(0).write(tmp_path / "b.json")
    some_trace(None).event("aten::mm", 70, 80).write(tmp_path / "c.json")
    result = report(tmp_path)
    assert [rank["rank"] for rank in result["ranks"]] == [0, 1, 2]
    assert [rank["steps"][0]["compute_ns"] for rank in result["ranks"]] == [50, 50, 60]
    assert codes(result) == ["rank_unknown", "rank_unknown"]


def test_other_json_files_in_a_folder_of_traces(tmp_path: Path, report: Report) -> None:
    some_trace(0).write(tmp_path / "deep" / "rank0.json.gz")
    (tmp_path / "settings.json").write_text("{}")
    result = report(tmp_path)
    assert [rank["rank"] for rank in result["ranks"]] == [0]
    assert codes(result) == ["unreadable_trace"]


def test_a_bare_list_of_events(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(some_trace().events))
    assert len(report(path)["ranks"][0]["steps"]) == 1


def test_a_truncated_file_gives_what_is_complete(tmp_path: Path, report: Report) -> None:
    made = some_trace()
    for i in range(3000):
        made.event(f"aten::op_{i}", 1000 + i, 1001 + i)
    data = gzip.compress(made.text().encode())
    path = tmp_path / "trace.json.gz"
    path.write_bytes(data[: len(data) // 2])
    result = report(path)
    assert result["ranks"][0]["steps"][0]["compute_ns"] == 50
    assert "truncated_trace" in codes(result)


def test_lost_events_are_counted(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "trace.json"
    path.write_text(some_trace().text().replace("]}", ', {"ph": "X", "ts": NaN}, {"ph": "X", "ts": "soon"}]}'))
    doubts = {doubt["code"]: doubt["count"] for doubt in report(path)["quality"]}
    assert doubts["lost_events"] == 2


@pytest.mark.parametrize("place", ["header", "arguments"])
def test_nesting_without_end_does_no_harm(place: str, tmp_path: Path, report: Report) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    text = some_trace().text()
    if place == "header":
        text = text.replace("{", f'{{"deep": {deep}, ', 1)
    else:
        event = f'{{"ph": "X", "cat": "cpu_op", "name": "c10d::send", "ts": 1, "args": {{"Input Dims": {deep}}}}}'
        text = text.replace('"traceEvents": [', f'"traceEvents": [{event}, ', 1)
    path = tmp_path / "trace.json"
    path.write_text(text)
    assert len(report(path)["ranks"][0]["steps"]) == 1


def test_a_doubt_about_several_ranks_is_one_line(tmp_path: Path, report: Report) -> None:
    for rank in range(3):
        some_trace(rank, 3).kernel("ncclKernel_AllReduce", 20, 30).write(tmp_path / f"rank{rank}.json")
    counts = {doubt["code"]: doubt["count"] for doubt in report(tmp_path)["quality"]}
    assert counts["sizes_unknown"] == 3


def test_a_trace_that_the_script_exported_itself(tmp_path: Path, report: Report) -> None:
    folder = record_rank(tmp_path / "run", 0, world_size=1)
    (folder / "trace.json.gz").rename(tmp_path / "own.json.gz")
    window = Window(first_step=1, last_step=1, file=str(tmp_path / "own.json.gz"), profiler="user")
    gone = replace(window, file=str(tmp_path / "gone.json"))
    write_whole(folder / "rank.json", replace(read_whole(RankRecord, folder / "rank.json"), windows=(window, gone)))
    assert [step["step"] for step in report(tmp_path / "run")["ranks"][0]["steps"]] == [1]


def test_two_files_of_one_rank_are_refused(tmp_path: Path, refusal: Refusal) -> None:
    some_trace(0).write(tmp_path / "a.json")
    some_trace(0).write(tmp_path / "b.json")
    assert "both say that they are rank 0" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.json", b""),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20),
        ("settings.json", b'{"learning_rate": [1, 2]}'),
        ("words.json", b"this is no trace\n"),
        ("noise.json.gz", b"\x1f\x8b" + bytes(range(256)) * 20),
        ("empty.json.gz", gzip.compress(b"")),
        ("cut.json.gz", gzip.compress(b'{"traceEvents": []}')[:12]),
    ],
)
def test_a_file_that_is_no_trace_is_refused(name: str, content: bytes, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert str(path) in refusal(path)
    path.rename(tmp_path / "only.json")
    assert str(tmp_path) in refusal(tmp_path)


def test_what_is_not_there_is_refused(tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "there are no traces" in refusal(tmp_path)
    (tmp_path / "ranks").mkdir()
    assert "no rank was recorded" in refusal(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "no recorded run" in refusal()


def test_a_file_whose_name_is_no_utf8(tmp_path: Path, report: Report) -> None:
    path = some_trace(None).write(tmp_path / os.fsdecode(b"rank4-\xff.json"))
    assert report(path)["ranks"][0]["rank"] == 4


def test_a_pipe_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.json")
    assert "there are no traces" in refusal(tmp_path)


def test_an_empty_file_is_called_empty(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "trace.json").touch()
    assert "is not readable as a trace: it is empty;" in refusal(tmp_path / "trace.json")


@pytest.mark.parametrize("what", ["folder", "file", "file in a folder"])
def test_what_may_not_be_read_is_refused(what: str, tmp_path: Path) -> None:
    path = some_trace().write(tmp_path / "folder" / "trace.json")
    locked = path if what == "file" else path.parent
    target = path.parent if what == "folder" else path
    locked.chmod(0)
    ended = without_superpowers("-m", "shardprof", "report", str(target))
    locked.chmod(0o700)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"shardprof: {target}")
    assert "Permission denied" in line


def without_superpowers(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python as a user to whom permissions apply: root may read everything, unless it drops that right."""
    dropped = "-dac_override,-dac_read_search"
    command = [sys.executable, *arguments]
    if os.geteuid() == 0:
        command = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
