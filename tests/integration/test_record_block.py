"""`with shardprof.record():` in scripts, on every rank of a job, and in a notebook: what it records, and what it leaves
as it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import HOST_FILE, HostRecord, RunFolder, read_whole

pytest.importorskip("torch")
pytest.importorskip("polars")
pytestmark = pytest.mark.integration

LOOP = """
import json, os, signal, sys, time, warnings
import shardprof, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
optimizer = torch.optim.AdamW(model.parameters())
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # it replaces the optimizer's own `step`
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(99, 8)), batch_size=2)
def train(steps):
    for _, (batch,) in zip(range(steps), data):
        model(batch).square().mean().backward(); optimizer.step(); schedule.step(); optimizer.zero_grad()
def tell(**facts):
    print(json.dumps(facts), flush=True)
"""

FSDP2 = """
import json, os, signal, sys, time
import shardprof, torch, torch.distributed as dist
from torch.distributed import init_process_group  # bound before anything could be hooked
from torch.distributed.fsdp import fully_shard
def build():
    global model, optimizer
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU()) for _ in range(3)])
    for block in model:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())
def train(steps):
    for _ in range(steps):
        model(torch.ones(4, 32)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
def tell(**facts):
    text = json.dumps({"on": dist.get_rank(), **facts}) + chr(10)
    os.write(1, text.encode())
def end():
    dist.barrier()
    time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
    dist.destroy_process_group()
"""

Job = Callable[..., Any]


@pytest.fixture
def job(tmp_path: Path, run_script: Any) -> Job:
    """Runs a script; what it told, and how it ended."""

    def run(script: str, **how: Any) -> Any:
        done = run_script(tmp_path, script, **how)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return told, done

    return run


def said(done: Any) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("shardprof: ")]


def outcome_of(run: Any) -> int:
    """The exit code, once its recorder has told it."""
    deadline = time.monotonic() + 30
    while run.run.outcome is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int(run.run.outcome.exit_code)


def test_each_block_of_a_process_is_a_run_of_its_own(job: Job, tmp_path: Path) -> None:
    """The optimizer and its scheduler are older than the first block."""
    (first, second, bare), done = job(f"""{LOOP}
for _ in range(2):
    with shardprof.record(out="run") as recording:
        train(9)
    rows = recording.run.recorded_steps()
    tell(folder=str(recording.folder), steps=rows["step"].to_list(),
         captured=rows.filter(rows["captured"])["step"].to_list(),
         phases=[rows[f"{{name}}_ns"].null_count() for name in ("data", "forward", "backward", "optimizer")],
         outcome=recording.run.result.source.exit_code, kept=sorted(recording.run.steps()["step"].to_list()))
train(3)
tell(steps=recording.run.recorded_steps().height)
""")
    assert first == {
        "folder": str(tmp_path / "run"), "steps": list(range(9)), "captured": [2, 3, 4, 5, 6], "phases": [0, 0, 0, 0],
        "outcome": 0, "kept": [2, 3, 4, 5, 6],
    }  # fmt: skip
    assert second == {**first, "folder": str(tmp_path / "run-2")}
    assert bare["steps"] == 9, "what trains after the block is not recorded"
    assert said(done) == [
        "shardprof: recorded 9 steps, captured steps 2-6: shardprof report run",
        "shardprof: recorded 9 steps, captured steps 2-6: shardprof report run-2",
    ]


def test_a_block_gives_its_files_back(job: Job, tmp_path: Path) -> None:
    """Those in the run's folder; a shell obeys nothing of its name."""
    (told,), done = job(f"""{LOOP}
def opened():
    paths = [os.readlink(file.path) for file in os.scandir("/proc/self/fd") if os.path.exists(file.path)]
    return [path for path in paths if "a run;" in path]
for _ in range(3):
    with shardprof.record("a run;$(b)") as recording:
        train(3)
        inside = opened()
tell(opened=[len(inside), len(opened())], headline=recording.headline)
""")
    assert told["opened"] == [3, 0]
    assert "a step" in told["headline"]
    assert said(done)[0].endswith(": shardprof report 'a run;$(b)'")


def test_marks_alone_make_as_many_steps_as_there_are_iterations(job: Job) -> None:
    """The first step begins with the block, for nothing else tells."""
    (told,), _ = job(f"""{LOOP}
with shardprof.record() as recording:
    time.sleep(0.05)
    for _ in range(10):
        shardprof.step()
rows = recording.run.recorded_steps()
tell(steps=rows["step"].to_list(), first=rows["wall_ns"][0])
""")
    assert told["steps"] == list(range(10))
    assert told["first"] > 50_000_000


def test_a_full_disk_is_told_of(job: Job, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    (told,), done = job(f"""
import ctypes, subprocess
assert ctypes.CDLL(None).unshare(0x00020000) == 0
subprocess.run("mount --make-rprivate / && mount -t tmpfs -o size=1m none disk", shell=True, check=True)
{LOOP}
with shardprof.record("disk/run", steps=None) as recording:
    train(3)
    try:
        with open("disk/rest", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass
    train(40)
tell(trained=schedule.last_epoch)
""")
    assert told == {"trained": 43}
    assert said(done)[0].startswith("shardprof: recorded 43 steps, captured none")
    assert "lost: steps are missing in steps.jsonl: [Errno 28] No space left on device" in said(done)[1]


def test_the_node_is_sampled_and_the_sampling_ends(job: Job, tmp_path: Path) -> None:
    job(f"{LOOP}\nwith shardprof.record('run') as recording:\n    train(4); time.sleep(1); train(4)\nrecording.run")
    run = RunFolder(tmp_path / "run")
    (folder,) = run.host_folders()
    host = read_whole(HostRecord, folder / HOST_FILE)
    assert '"node"' in (folder / "counters.jsonl").read_text()
    assert host.outcome is not None
    assert host.notes == ()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{host.launcher_pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_exception_goes_on_and_is_the_outcome(job: Job) -> None:
    (told,), _ = job(f"""{LOOP}
try:
    with shardprof.record() as recording:
        train(4)
        raise KeyError("mine")
except KeyError as error:
    tell(error=str(error), outcome=recording.run.result.source.exit_code, steps=recording.run.recorded_steps().height,
         again=recording.run is recording.run)
""")
    assert told == {"error": "'mine'", "outcome": 1, "steps": 4, "again": True}


@pytest.mark.parametrize(("end", "outcome"), [("", 0), ("raise KeyError('mine')", 1)])
def test_a_process_that_ends_inside_a_block_is_its_outcome(
    end: str, outcome: int, job: Job, tmp_path: Path, read_run: Any
) -> None:
    """Whatever failed before: in a notebook `sys.last_value` is that of any earlier cell."""
    job(
        f"{LOOP}\nsys.last_value = KeyError('an earlier cell')\nshardprof.record('run').__enter__(); train(4)\n{end}",
        check=False,
    )
    assert outcome_of(read_run(tmp_path / "run")) == outcome


def test_torch_may_be_imported_inside(job: Job) -> None:
    (told,), _ = job(f"""
import sys, shardprof
with shardprof.record() as nothing:
    pass
assert "torch" not in sys.modules and nothing.folder is None
try:
    nothing.run
except shardprof.ShardprofError as error:
    why = str(error)
with shardprof.record(steps=None) as recording:
    exec({LOOP!r})
    train(6)
tell(why=why, steps=recording.run.recorded_steps().height, traces=recording.run.steps().height)
""")
    assert told["why"].startswith("nothing was recorded")
    assert (told["steps"], told["traces"]) == (6, 0)


def test_a_block_within_a_block_does_nothing(job: Job) -> None:
    (told,), done = job(f"""{LOOP}
with shardprof.record() as recording:
    train(2)
    for _ in range(2):
        with shardprof.record() as inner:
            train(2)
    train(2)
tell(steps=recording.run.recorded_steps().height, inner=repr(inner))
""")
    assert told == {"steps": 8, "inner": "<shardprof.record(): it is inside another such block>"}
    assert said(done)[0] == "shardprof: it is inside another such block: shardprof.record() does nothing"
    assert len(said(done)) == 2


def test_a_profiler_of_the_users_that_is_open_already_is_left_alone(job: Job) -> None:
    (told,), done = job(f"""{LOOP}
with torch.profiler.profile() as profiler:
    train(1)
    with shardprof.record() as recording:
        train(9)
with shardprof.record() as after:
    train(9)
names = [event.name for event in profiler.events()]
tell(seen=sum("AdamW.step" in name for name in names), captured=recording.run.steps().height,
     after=after.run.steps().height)
""")
    assert told == {"seen": 10, "captured": 0, "after": 5}
    assert any("its own torch.profiler" in line for line in said(done))


def test_under_the_command_a_block_does_nothing(record_job: Any, tmp_path: Path) -> None:
    script = (
        f"{LOOP}\nfor _ in range(2):\n    with shardprof.record() as recording:\n        train(5)\nprint(recording)"
    )
    (tmp_path / "train.py").write_text(script)
    recorded = record_job(tmp_path, sys.executable, "train.py")
    assert recorded.exit_code == 0, recorded.stderr
    assert [step.step for step in recorded.steps()] == list(range(10))
    assert recorded.stderr.count("shardprof.record() does nothing") == 1
    assert not (tmp_path / "shardprof-runs").exists()


def test_failures_of_ours_cost_the_recording_only(job: Job) -> None:
    """One after the other; the block after them is recorded as if nothing had been."""
    (told,), _ = job(f"""{LOOP}
from shardprof.recording import shield
for fault in ("all", "Block._enter", "Agent.training_seen", "Agent.finish", "Block._leave", "Capture.finish"):
    shield.FAULTS.add(fault)
    with shardprof.record() as failed:
        train(4)
    shield.FAULTS.clear()
with shardprof.record() as recording:
    train(4)
tell(trained=schedule.last_epoch, recorded=recording.run.recorded_steps().height)
""")
    assert told == {"trained": 28, "recorded": 4}


def test_a_folder_that_cannot_be_made_costs_the_recording_only(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (told,), done = job(f"{LOOP}\nwith shardprof.record('file/run'):\n    train(9)\ntell(steps=schedule.last_epoch)")
    assert told == {"steps": 9}
    assert len(said(done)) == 1
    assert said(done)[0].endswith(f"not recorded: {tmp_path / 'file' / 'run'}: Not a directory")


def test_two_ranks_share_a_run_whose_model_is_older_than_the_block(job: Job, tmp_path: Path) -> None:
    told, done = job(
        f"""{FSDP2}
init_process_group("gloo"); build(); train(2)
for _ in range(2):
    with shardprof.record() as recording:
        train(8)
    run = recording.run
    rows = run.recorded_steps()
    tell(folder=recording.folder.name, ranks=run.ranks, steps=run.steps().select("rank", "step").rows(),
         forward=rows["forward_ns"].null_count(), backward=rows["backward_ns"].null_count(),
         source=[run.result.source.framework, run.result.source.settings["strategy"], len(run.result.source.hosts)],
         matched=[row.calls for row in run.result.collectives if row.ranks], outcome=run.result.source.exit_code)
end()
""",
        ranks=2,
    )
    by_folder: dict[str, list[Any]] = {}
    for facts in told:
        by_folder.setdefault(facts.pop("folder"), []).append(facts)
    assert len(by_folder) == 2
    for of_ranks in by_folder.values():
        assert sorted(facts.pop("on") for facts in of_ranks) == [0, 1]
        one, other = of_ranks
        assert one == other
        assert {**one, "matched": None} == {
            "ranks": [0, 1], "steps": [[rank, step] for rank in (0, 1) for step in range(2, 7)], "forward": 0,
            "backward": 0, "source": ["FSDP2", "full shard", 1], "matched": None, "outcome": 0,
        }  # fmt: skip
        assert one["matched"]
    assert len(said(done)) == 2, "one line a block, of rank 0"


def test_a_node_with_a_disk_of_its_own_has_a_run_of_its_own(job: Job, tmp_path: Path) -> None:
    """Rank 1 is in a mount namespace with another disk there, and takes itself for another node."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    (tmp_path / "disk").mkdir()
    told, done = job(
        f"""
import ctypes, os, subprocess
from shardprof.recording import identity
if os.environ["RANK"] == "1":
    assert ctypes.CDLL(None).unshare(0x00020000) == 0
    subprocess.run("mount --make-rprivate / && mount -t tmpfs none disk", shell=True, check=True)
    node = identity.of_node()
    identity.of_node = lambda: f"other {{node}}"
{FSDP2}
init_process_group("gloo"); build()
for _ in range(2):
    with shardprof.record("disk/run") as recording:
        train(4)
    tell(name=recording.folder.name, ranks=recording.run.ranks, outcome=recording.run.result.source.exit_code)
end()
""",
        ranks=2,
    )
    assert sorted(told, key=lambda facts: (facts["name"], facts["on"])) == [
        {"on": rank, "name": name, "ranks": [rank], "outcome": 0} for name in ("run", "run-2") for rank in (0, 1)
    ]
    assert sum("this node shares no storage with the first rank's" in line for line in said(done)) == 2


def test_two_ranks_meet_where_the_process_group_is_made_inside(job: Job) -> None:
    told, _ = job(
        f"""{FSDP2}
with shardprof.record() as recording:
    init_process_group("gloo"); build(); train(8)
tell(folder=recording.folder.name, ranks=recording.run.ranks, steps=recording.run.recorded_steps().height)
end()
""",
        ranks=2,
    )
    assert [(facts["ranks"], facts["steps"]) for facts in told] == [([0, 1], 16)] * 2
    assert told[0]["folder"] == told[1]["folder"]


def test_a_block_of_one_rank_only_keeps_nobody_waiting(job: Job) -> None:
    """And in the next one, which all ranks enter, they meet all the same."""
    told, _ = job(
        f"""{FSDP2}
init_process_group("gloo"); build()
if dist.get_rank() == 1:
    with shardprof.record() as alone:
        shardprof.step(); shardprof.step()
    tell(ranks=alone.run.ranks)
dist.barrier()
with shardprof.record() as recording:
    train(4)
tell(ranks=recording.run.ranks)
end()
""",
        ranks=2,
    )
    assert sorted((facts["on"], facts["ranks"]) for facts in told) == [(0, [0, 1]), (1, [0, 1]), (1, [1])]


def test_the_outcome_is_that_of_the_rank_that_failed(job: Job) -> None:
    told, _ = job(
        f"""{FSDP2}
init_process_group("gloo"); build()
try:
    with shardprof.record() as recording:
        train(4)
        if dist.get_rank() == 1:
            raise KeyError
except KeyError:
    pass
tell(outcome=recording.run.result.source.exit_code)
end()
""",
        ranks=2,
    )
    assert [facts["outcome"] for facts in told] == [1, 1]


def test_a_rank_that_is_killed_leaves_a_run_with_its_outcome(job: Job, tmp_path: Path, read_run: Any) -> None:
    script = f"""{FSDP2}
init_process_group("gloo"); build()
with shardprof.record("run"):
    train(4)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    job(script, ranks=2, check=False)
    run = read_run(tmp_path / "run")
    assert outcome_of(run) == 1
    assert run.run.ranks == (0, 1)
    assert [step.step for step in run.steps(1)] == [0, 1, 2, 3]


def test_an_engine_of_deepspeeds_that_is_older_than_the_block(job: Job) -> None:
    pytest.importorskip("deepspeed")
    told, _ = job(
        """
import json, os, time, torch, deepspeed, shardprof, torch.distributed as dist
deepspeed.init_distributed("gloo")
model = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(3)])
config = {
    "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    "zero_optimization": {"stage": 3, "sub_group_size": 1100, "stage3_param_persistence_threshold": 0},
}
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
with shardprof.record() as recording:
    for _ in range(2 * 8):
        engine.backward(engine(torch.ones(4, 32)).square().mean())
        engine.step()
source = recording.run.result.source
facts = {"steps": recording.run.recorded_steps().height, "is": [source.framework, source.settings["strategy"]]}
os.write(1, (json.dumps(facts) + chr(10)).encode())
dist.barrier(); time.sleep(0.3)
""",
        ranks=2,
    )
    assert told == [{"steps": 16, "is": ["DeepSpeed", "ZeRO-3"]}] * 2


@pytest.mark.filterwarnings("ignore")  # those of the Jupyter client
def test_cells_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("JPY_SESSION_NAME", "my training.ipynb")
    block = "with shardprof.record() as recording:\n    train(8)\nrecording.run"
    cells = [LOOP, block, block, "print([path.name for path in sorted(recording.folder.parent.iterdir())])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [cell.outputs[-1] for cell in notebook.cells[1:]]
    assert all("captured step" not in output.get("text", "") for output in shown)
    assert ["text/html" in output["data"] for output in shown[:2]] == [True, True]
    assert shown[2]["text"].count("-my training") == 2
