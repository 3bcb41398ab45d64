"""What is recorded of real trainings: which processes are ranks, where steps end, what was captured and said."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

pytestmark = pytest.mark.integration
RecordJob = Callable[..., Any]
SECRET = "planted-f3a9c2"


def profiler_steps(recorded: Any, rank: int = 0) -> list[int]:
    names = [name for name in recorded.names(rank) if name.startswith("ProfilerStep#")]
    return sorted(int(name.removeprefix("ProfilerStep#")) for name in names)


def overlaps(events: list[dict[str, Any]]) -> list[str]:
    """Ranges of one thread that neither contain nor avoid each other: viewers drop one of them."""
    found = []
    spans = [
        (str(e["tid"]), e["ts"], -e["dur"], e["name"]) for e in events if e.get("cat") in ("cpu_op", "user_annotation")
    ]
    enclosing: list[tuple[float, str]] = []
    thread = None
    for tid, begin, minus_duration, name in sorted(spans):
        if tid != thread:
            thread, enclosing = tid, []
        while enclosing and enclosing[-1][0] <= begin:
            enclosing.pop()
        end = begin - minus_duration
        if enclosing and end > enclosing[-1][0] + 0.002:  # microseconds with three decimals
            found.append(f"{name} in {enclosing[-1][1]}")
        enclosing.append((end, name))
    return found


def test_training_prints_and_computes_the_same(
    fsdp2_run: Any, fsdp2_script: Path, job_environment: Any, free_port: Callable[[], str]
) -> None:
    bare = subprocess.run(
        ["torchrun", "--master-port", free_port(), "--nproc-per-node", "2", fsdp2_script.name],
        cwd=fsdp2_script.parent, env=job_environment(), capture_output=True, timeout=240, check=True,
    )  # fmt: skip
    assert fsdp2_run.exit_code == 0
    assert len(fsdp2_run.stdout.splitlines()) == 14
    assert fsdp2_run.stdout == bare.stdout


@pytest.mark.parametrize("rank", [0, 1])
def test_fsdp2_steps_are_recorded_and_the_planned_ones_captured(fsdp2_run: Any, rank: int) -> None:
    steps = fsdp2_run.steps(rank)
    assert [step.step for step in steps] == list(range(14))
    assert [step.step for step in steps if step.captured] == [7, 8, 9, 10, 11]
    assert all(before.end_ns == after.begin_ns for before, after in itertools.pairwise(steps))
    for step in steps:
        phases = [step.data_ns, step.forward_ns, step.backward_ns, step.optimizer_ns]
        assert all(phase is not None and phase > 0 for phase in phases)
        assert sum(phases) <= step.end_ns - step.begin_ns
    assert profiler_steps(fsdp2_run, rank) == [7, 8, 9, 10, 11]
    assert overlaps(fsdp2_run.events(rank)) == []


def test_fsdp2_phases_and_groups_are_ranges_of_the_trace(fsdp2_run: Any) -> None:
    names = Counter(fsdp2_run.names())
    assert {names[f"shardprof::{phase}"] for phase in ("forward", "backward", "optimizer")} == {5}
    assert names["shardprof::group 0"] == names["gloo:all_gather"] + names["gloo:all_reduce"] > 0
    inputs = [e["args"] for e in fsdp2_run.events() if e["name"] == "gloo:all_gather"]
    assert all("Input Dims" in arguments for arguments in inputs), "gloo's sizes come from shapes only"


def test_the_trace_times_are_those_of_the_steps(fsdp2_run: Any) -> None:
    """Both are Unix times: a step's range in the trace begins in the hooks right after the step's own begin."""
    trace = json.loads(gzip.decompress((fsdp2_run.folder.rank(0) / "trace.json.gz").read_bytes()))
    begins = {e["name"]: e["ts"] for e in trace["traceEvents"] if e["name"].startswith("ProfilerStep#")}
    for step in fsdp2_run.steps():
        if step.captured:
            begin_ns = begins[f"ProfilerStep#{step.step}"] * 1000 + trace["baseTimeNanoseconds"]
            assert step.begin_ns - 1e6 < begin_ns < step.end_ns


def test_a_rank_says_what_it_is(fsdp2_run: Any) -> None:
    rank = fsdp2_run.rank(1)
    assert (rank.rank, rank.local_rank, rank.world_size, rank.device) == (1, 1, 2, "cpu")
    assert rank.framework == "FSDP2"
    assert rank.settings["strategy"] == "full shard"
    assert rank.settings["parameters"] == 3 * (32 * 32 + 32)
    assert [(group.name, group.ranks) for group in rank.process_groups] == [("0", (0, 1))]
    assert [(w.first_step, w.last_step, w.file) for w in rank.windows] == [(7, 11, "trace.json.gz")]
    assert rank.notes == ()
    assert fsdp2_run.stderr.count("recording rank 1 (pid") == 1


def test_the_run_is_complete_and_keeps_no_secret(fsdp2_run: Any) -> None:
    run = fsdp2_run.run
    assert run.command[0] == "torchrun"
    assert run.command[-3:] == ("--nproc-per-node", "2", "train.py")
    assert (run.launcher, run.ranks, run.outcome.exit_code, run.dropped_records) == ("torchrun", (0, 1), 0, 0)
    assert run.environment["NCCL_DEBUG"] == "WARN"
    assert run.environment["OMP_NUM_THREADS"] == "1"
    assert run.versions["torch"]
    assert 0 < run.always_on_share < 1
    assert "next: shardprof report" in fsdp2_run.stderr
    for path in fsdp2_run.folder.root.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_the_host_is_sampled_with_its_ranks(fsdp2_run: Any) -> None:
    (host,) = fsdp2_run.folder.host_folders()
    lines = [json.loads(line) for line in (host / "counters.jsonl").read_text().splitlines()]
    values = {subject: counters for line in lines for subject, counters in line["values"].items()}
    assert values["rank 0"]["rss_bytes"] > 1e6
    assert values["rank 1"]["cpu_user_s"] > 0
    assert values["lo"]["tx_bytes"] > 0
    assert values["node"]["memory_used_bytes"] > 0


def test_deepspeed_ends_a_step_at_the_boundary_of_accumulation(deepspeed_run: Any) -> None:
    assert deepspeed_run.exit_code == 0
    for rank in (0, 1):
        assert len(deepspeed_run.steps(rank)) == 10
        assert {7, 8, 9} <= set(profiler_steps(deepspeed_run, rank))
        assert overlaps(deepspeed_run.events(rank)) == []
    names = Counter(deepspeed_run.names())
    assert names["Optimizer.step#AdamW.step"] > 3, "the inner optimizer steps several times a step"
    assert names["shardprof::backward"] == names["shardprof::forward"] == 2 * 3
    assert names["DeepSpeedEngine.forward"] == 2 * 3
    assert names["PartitionedParameterCoordinator.fetch_sub_module"] > 0
    rank = deepspeed_run.rank()
    assert (rank.framework, rank.settings["strategy"]) == ("DeepSpeed", "ZeRO-3")
    assert rank.settings["gradient_accumulation_steps"] == 2
    assert rank.settings["parameters"] == 3 * (32 * 32 + 32)


@pytest.mark.parametrize(
    "script",
    ["two_optimizers", "overflow", "in_backward", "by_hand", "once_an_iteration", "teacher", "loaders", "forks"],
)
def test_each_kind_of_loop_has_its_steps(marks: Any, script: str) -> None:
    rank = marks.rank_of[script]
    assert [step.step for step in marks.recorded.steps(rank)] == list(range(14))
    assert profiler_steps(marks.recorded, rank) == [7, 8, 9, 10, 11]
    assert overlaps(marks.recorded.events(rank)) == []


def test_only_what_trains_is_a_rank(marks: Any) -> None:
    assert marks.recorded.run.ranks == tuple(range(len(marks.rank_of)))
    assert marks.recorded.stderr.count("recording rank") == len(marks.rank_of)


def test_a_signal_to_a_forked_child_is_the_childs_alone(marks: Any) -> None:
    assert b"survived\n" in marks.recorded.stdout
    assert [window.last_step for window in marks.recorded.rank(marks.rank_of["forks"]).windows] == [11]


def test_the_model_in_training_is_described_and_none_is_kept(marks: Any) -> None:
    assert b"taught\n" in marks.recorded.stdout
    rank = marks.recorded.rank(marks.rank_of["teacher"])
    assert (rank.framework, rank.settings["parameters"]) == ("DDP", 8 * 8)


def test_parts_of_the_first_step_by_hand_are_that_step(marks: Any) -> None:
    folder = marks.recorded.folder.rank(marks.rank_of["once_an_iteration"])
    written = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2, *range(14)]
    parts, whole = written[:3], written[3]
    assert (whole["begin_ns"], parts[-1]["end_ns"]) <= (parts[0]["begin_ns"], whole["end_ns"])
    assert whole["optimizer_ns"] == sum(part["optimizer_ns"] for part in parts)
    assert whole["hook_ns"] >= sum(part["hook_ns"] for part in parts)


def test_the_data_wait_of_workers_is_seen(marks: Any) -> None:
    assert all(step.data_ns > 0 for step in marks.recorded.steps(marks.rank_of["loaders"]))


def test_forward_is_inferred_where_no_framework_says(marks: Any) -> None:
    assert all(step.forward_ns > 0 for step in marks.recorded.steps(marks.rank_of["two_optimizers"])[1:])


def test_the_scripts_own_profiler_is_left_alone(marks: Any) -> None:
    rank = marks.recorded.rank(marks.rank_of["own_profiler"])
    (window,) = rank.windows
    assert (window.profiler, window.first_step, window.last_step) == ("user", 9, 11)
    assert window.file == str(marks.cwd / "own.json")
    names = [event.get("name") for event in json.loads(Path(window.file).read_text())["traceEvents"]]
    assert "ProfilerStep#9" in names
    assert any("left to it" in note for note in rank.notes)
    assert "the script runs its own torch.profiler" in marks.recorded.stderr


def test_a_profiler_that_starts_during_the_capture_ends_it(marks: Any) -> None:
    rank = marks.rank_of["late_profiler"]
    windows = {window.profiler: window for window in marks.recorded.rank(rank).windows}
    assert (windows["shardprof"].first_step, windows["shardprof"].last_step) == (7, 8)
    assert (windows["user"].first_step, windows["user"].last_step) == (9, 10)
    assert (marks.cwd / "late.json").exists()
    assert {7, 8} <= set(profiler_steps(marks.recorded, rank))


def test_a_broken_hook_costs_records_and_not_the_job(marks: Any) -> None:
    rank = marks.recorded.rank(marks.rank_of["broken_hooks"])
    assert b"finished\n" in marks.recorded.stdout
    assert rank.dropped_records > 0
    assert any("injected" in note for note in rank.notes)
    assert marks.recorded.run.dropped_records >= rank.dropped_records
    assert "records lost: phase.phase_begins: RuntimeError('injected')" in marks.recorded.stderr


VANISHED = """
import shutil, sys, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
sys.stderr = None
for step in range(14):
    if step == 3:
        shutil.rmtree("run")
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
print("finished", flush=True)
"""


def test_a_run_folder_that_vanishes_costs_the_record_and_not_the_job(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(VANISHED)
    recorded = record_job(tmp_path, "python", "train.py")
    assert (recorded.exit_code, recorded.stdout) == (0, b"finished\n")
    assert "the end of the run is not recorded" in recorded.stderr


EARLY = """
import sys, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(int(sys.argv[1])):
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
sys.exit(5)
"""


def test_a_job_that_ends_sooner_leaves_what_it_captured(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EARLY)
    recorded = record_job(tmp_path, "python", "train.py", "9", options=("--stack", "--memory", "--shapes"))
    assert recorded.exit_code == 5
    assert {7, 8} <= set(profiler_steps(recorded))
    (window,) = recorded.rank().windows
    assert (window.first_step, window.last_step) == (7, 8)
    assert any(event.get("cat") == "python_function" for event in recorded.events())


def test_a_job_too_short_for_the_plan_says_which_steps_to_capture(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EARLY)
    recorded = record_job(tmp_path, "python", "train.py", "3")
    assert "no step captured" in recorded.stderr
    assert "try `--steps 0:3`" in recorded.stderr
    again = record_job(tmp_path, "python", "train.py", "3", out="again", options=("--steps", "0:3"))
    assert set(profiler_steps(again)) >= {0, 1, 2}


def test_a_window_without_a_whole_step_counts_as_none(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EARLY)
    recorded = record_job(tmp_path, "python", "train.py", "7")
    assert recorded.rank().windows == ()
    assert "no step captured" in recorded.stderr
    assert "try `--steps 2:7`" in recorded.stderr
    assert profiler_steps(recorded) == [7], "what was captured of it is kept"


def test_windows_repeat_from_the_end_of_the_last_one(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EARLY)
    recorded = record_job(tmp_path, "python", "train.py", "12", options=("--steps", "2:4", "--repeat", "2"))
    windows = [(w.first_step, w.last_step, w.file) for w in recorded.rank().windows]
    assert windows == [(2, 3, "trace.json.gz"), (6, 7, "trace.1.json.gz")]


RESTARTED = """
import os, sys, torch
import torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
for step in range(9 + attempt):
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
dist.destroy_process_group()
sys.exit(1 - attempt)
"""


def test_torch_distributed_run_with_a_restart(
    record_job: RecordJob, free_port: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(RESTARTED)
    options = ("--master-port", free_port(), "--nproc-per-node", "1", "--max-restarts", "1")
    recorded = record_job(tmp_path, "python", "-m", "torch.distributed.run", *options, "train.py")
    assert recorded.exit_code == 0
    assert recorded.run.launcher == "torch.distributed.run"
    assert recorded.rank().framework == "DDP"
    assert len(recorded.steps()) == 10
    first_attempt = recorded.folder.rank(0) / "attempt-0" / "steps.jsonl"
    assert len(first_attempt.read_text().splitlines()) == 9


SPAWNED = """
import os, sys, torch
import torch.distributed as dist
def work(rank, port):
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
    import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
    dist.destroy_process_group()
if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1],), nprocs=2)
"""


def test_ranks_that_the_script_spawns_itself(
    record_job: RecordJob, free_port: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(SPAWNED)
    recorded = record_job(tmp_path, "python", "train.py", free_port())
    assert recorded.exit_code == 0
    assert recorded.run.ranks == (0, 1)
    assert [len(recorded.steps(rank)) for rank in (0, 1)] == [4, 4]


FORKED = """
import multiprocessing, torch
import torch.distributed as dist
def work(rank):
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dist.init_process_group("gloo", store=dist.FileStore("store", 2), rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(model)
    for _ in range(9):
        model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
    import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
    dist.destroy_process_group()
ranks = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(2)]
for rank in ranks:
    rank.start()
for rank in ranks:
    rank.join()
    assert rank.exitcode == 0
"""


@pytest.fixture(scope="module")
def forked_run(record_job: RecordJob, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Forked ranks that know their number only once they join their group; then another training in the same job."""
    cwd = tmp_path_factory.mktemp("forked")
    (cwd / "forked.py").write_text(FORKED)
    (cwd / "train.py").write_text(EARLY)
    return record_job(cwd, "bash", "-c", "python forked.py && python train.py 2", out=f"compile_worker{os.pathsep}30")


def test_ranks_that_build_their_optimizer_before_they_join_a_group(forked_run: Any) -> None:
    assert forked_run.run.ranks == (0, 1)
    assert [len(forked_run.steps(rank)) for rank in (0, 1)] == [9, 9]
    assert {forked_run.rank(rank).framework for rank in (0, 1)} == {"DDP"}


@pytest.mark.parametrize("rank", [0, 1])
def test_forked_ranks_keep_an_open_window(forked_run: Any, rank: int) -> None:
    assert [(w.first_step, w.last_step) for w in forked_run.rank(rank).windows] == [(7, 8)]
    assert {7, 8} <= set(profiler_steps(forked_run, rank))


def test_a_second_training_in_one_job_is_told_of(forked_run: Any) -> None:
    assert forked_run.exit_code == 5, "that of the second one"
    owner = f"{forked_run.rank().host} {forked_run.rank().pid}"
    (host,) = forked_run.folder.host_folders()
    (note,) = json.loads((host / "host.json").read_text())["notes"]
    assert f"rank 0 is another process's ({owner})" in note
    assert forked_run.stderr.count("trains but is not recorded: rank 0 is") == 1


WITHOUT_SHARDPROF = """
import importlib.util, sys
from importlib.machinery import PathFinder
class OthersFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name == "shardprof" else PathFinder.find_spec(name, path, target)
finders = [finder for finder in sys.meta_path if "ditable" not in f"{type(finder)} {finder}"]
sys.meta_path[:] = [OthersFinder if finder is PathFinder else finder for finder in finders]
assert importlib.util.find_spec("shardprof") is None
"""


def test_a_rank_without_shardprof_in_its_environment_borrows_the_recorders(
    record_job: RecordJob, tmp_path: Path
) -> None:
    """Neither the script's folder nor site-packages has shardprof: only the bootstrap knows where it is."""
    (tmp_path / "train.py").write_text(WITHOUT_SHARDPROF + EARLY)
    recorded = record_job(tmp_path, sys.executable, "-P", "train.py", "2")
    assert recorded.run.ranks == (0,)
