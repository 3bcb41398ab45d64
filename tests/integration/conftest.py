"""Real jobs under the real `shardprof record`, small enough for two cores; shared by the tests that look at them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from shardprof.trace.schema import RankRecord, RunFolder, RunRecord, StepRecord, read_steps, read_whole

TIMEOUT_S = 240


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a recorded job left: its exit code, its output, its run folder."""

    folder: RunFolder
    exit_code: int = 0
    stdout: bytes = b""
    stderr: str = ""

    @property
    def run(self) -> RunRecord:
        return read_whole(RunRecord, self.folder.run_file)

    def rank(self, rank: int = 0) -> RankRecord:
        return read_whole(RankRecord, self.folder.rank(rank) / "rank.json")

    def steps(self, rank: int = 0) -> list[StepRecord]:
        return read_steps(self.folder.rank(rank) / "steps.jsonl")

    def events(self, rank: int = 0, file: str = "trace.json.gz") -> list[dict[str, Any]]:
        """The complete events of a captured window."""
        data = (self.folder.rank(rank) / file).read_bytes()
        trace = json.loads(gzip.decompress(data) if file.endswith(".gz") else data)
        return [event for event in trace["traceEvents"] if event.get("ph") == "X"]

    def names(self, rank: int = 0) -> list[str]:
        return [event["name"] for event in self.events(rank)]


def job_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this test, with the interpreter's own scripts first and one thread a rank."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **(extra or {})}


def record_command(*command: str, out: Path, options: tuple[str, ...] = ()) -> list[str]:
    """The command line of `shardprof record`."""
    return [sys.executable, "-m", "shardprof", "record", "--out", str(out), *options, "--", *command]


def record_job(
    cwd: Path,
    *command: str,
    out: str = "run",
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Recorded:
    """Run a command under `shardprof record` to its end."""
    done = subprocess.run(
        record_command(*command, out=cwd / out, options=options),
        cwd=cwd,
        env=job_environment(environment),
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    folder = RunFolder(cwd / out)
    return Recorded(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr.decode(), folder=folder)


def run_script(
    cwd: Path,
    script: str,
    *,
    ranks: int = 1,
    before: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a training script by itself, which may record itself, alone or on several ranks. `before` is told to Python;
    where `check`, its exit code has to be 0."""
    (cwd / "train.py").write_text(script)
    torchrun = ("-m", "torch.distributed.run", "--master-port", free_port(), "--nproc-per-node", str(ranks))
    done = subprocess.run(
        [sys.executable, *before, *(torchrun if ranks > 1 else ()), "train.py"],
        cwd=cwd,
        env=job_environment(environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def free_port() -> str:
    """A port that nothing listens on, for jobs whose launcher would take the default one."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """What a test that failed has left running would slow the tests after it until they fail too."""
    yield
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture(scope="session", name="free_port")
def free_port_fixture() -> Callable[[], str]:
    return free_port


@pytest.fixture(scope="session", name="record_job")
def record_job_fixture() -> Callable[..., Recorded]:
    return record_job


@pytest.fixture(scope="session", name="run_script")
def run_script_fixture() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_script


@pytest.fixture(scope="session", name="record_command")
def record_command_fixture() -> Callable[..., list[str]]:
    return record_command


@pytest.fixture(scope="session", name="job_environment")
def job_environment_fixture() -> Callable[..., dict[str, str]]:
    return job_environment


@pytest.fixture(scope="session")
def report_of() -> Callable[[Path], dict[str, Any]]:
    """What `shardprof report` tells of a run folder, as JSON."""

    def report(folder: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "shardprof", "report", str(folder), "--format", "json"]
        told: dict[str, Any] = json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)
        return told

    return report


@pytest.fixture(scope="session")
def read_run() -> Callable[[Path], Recorded]:
    """A run whose recorder the test started itself."""
    return lambda folder: Recorded(folder=RunFolder(folder))


FSDP2 = """
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
dist.init_process_group("gloo")
model = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU()) for _ in range(3)])
for block in model:
    fully_shard(block)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters())
for step, (batch,) in enumerate(DataLoader(TensorDataset(torch.randn(14 * 4, 32)), batch_size=4)):
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if dist.get_rank() == 0:
        print(step, loss.item().hex())
import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
dist.destroy_process_group()
"""

DEEPSPEED = """
import torch, deepspeed
deepspeed.init_distributed("gloo")
model = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(3)])
config = {
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 2,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    "zero_optimization": {"stage": 3, "sub_group_size": 1100, "stage3_param_persistence_threshold": 0},
}
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for _ in range(2 * 10):
    engine.backward(engine(torch.randn(4, 32)).square().mean())
    engine.step()
"""

SECRET = "planted-f3a9c2"


@pytest.fixture(scope="session")
def fsdp2_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("fsdp2") / "train.py"
    script.write_text(FSDP2)
    return script


@pytest.fixture(scope="session")
def fsdp2_run(fsdp2_script: Path) -> Recorded:
    """Two FSDP2 ranks under torchrun, 14 steps, the default plan."""
    return record_job(
        fsdp2_script.parent,
        "torchrun", "--master-port", free_port(), "--nproc-per-node", "2", "train.py",
        environment={"HF_TOKEN": SECRET, "WANDB_API_KEY": SECRET, "NCCL_AUTH_TOKEN": SECRET, "NCCL_DEBUG": "WARN"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def deepspeed_run(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two ZeRO-3 ranks under the deepspeed launcher: 10 steps of 2 micro-batches, the inner optimizer steps 3 times."""
    cwd = tmp_path_factory.mktemp("deepspeed")
    (cwd / "train.py").write_text(DEEPSPEED)
    return record_job(cwd, "deepspeed", "--num_gpus", "2", "--master_port", free_port(), "train.py")


MARKS = {
    "two_optimizers": """
import torch
g, d = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
of_g, of_d = torch.optim.Adam(g.parameters()), torch.optim.Adam(d.parameters())
for _ in range(14):
    d(g(torch.ones(4, 8)).detach()).mean().backward(); of_d.step(); of_d.zero_grad()
    d(g(torch.ones(4, 8))).mean().backward(); of_g.step(); of_g.zero_grad()
""",
    "overflow": """
import torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
for step in range(14):
    batch = torch.ones(4, 8) * (float("inf") if step in (2, 9) else 1.0)
    scaler.scale(model(batch).mean()).backward(); scaler.step(optimizer); scaler.update(); optimizer.zero_grad()
""",
    "in_backward": """
import torch
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
optimizers = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()}
def step(parameter):
    optimizers[parameter].step(); optimizers[parameter].zero_grad()
for parameter in model.parameters():
    parameter.register_post_accumulate_grad_hook(step)
for _ in range(14):
    model(torch.ones(4, 8)).square().mean().backward()
""",
    "by_hand": """
import torch, shardprof
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
shardprof.step()
for _ in range(14):
    for _ in range(3):
        model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    shardprof.step()
""",
    "once_an_iteration": """
import torch, shardprof
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(14):
    for _ in range(3):
        model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    shardprof.step()
""",
    "teacher": """
import gc, weakref, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
before = DistributedDataParallel(torch.nn.Linear(8, 16))
before(torch.ones(4, 8))
gone = weakref.ref(before)
del before; gc.collect()
assert gone() is None, "a model that is no longer used is not kept"
model, teacher = (DistributedDataParallel(torch.nn.Linear(8, 8, bias=bias)) for bias in (False, True))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(14):
    with torch.no_grad():
        teacher(torch.ones(4, 8))
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    with torch.no_grad():
        teacher(torch.ones(4, 8))
import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
dist.destroy_process_group()
print("taught", flush=True)
""",
    "own_profiler": """
import torch
from torch.profiler import ProfilerActivity, profile, schedule
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def ready(profiler):
    profiler.export_chrome_trace("own.json")
plan = schedule(wait=8, warmup=1, active=3, repeat=1)
with profile(activities=[ProfilerActivity.CPU], schedule=plan, on_trace_ready=ready) as profiler:
    for _ in range(14):
        model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad(); profiler.step()
""",
    "late_profiler": """
import torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(14):
    if step == 9:
        profiler = torch.profiler.profile(); profiler.start()
    if step == 11:
        profiler.stop(); profiler.export_chrome_trace("late.json")
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
""",
    "loaders": """
import torch
from torch.utils.data import DataLoader, TensorDataset
def main():
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.ones(28, 8))
    for start in ("fork", "spawn"):
        for (batch,) in DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=start):
            model(batch).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
if __name__ == "__main__":
    main()
""",
    "forks": """
import os, signal, time, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(14):
    if step == 9:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(6)  # longer than the recorder waits before it lets a SIGTERM kill
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
print("survived", flush=True)
""",
    "broken_hooks": """
import torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def broken(*_):
    raise RuntimeError("injected")
import shardprof.recording.rank.recorder as recorder
recorder.Recorder.begin = broken
recorder.Recorder.end = broken
for step in range(14):
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
print("finished", flush=True)
""",
}


@dataclass(frozen=True, kw_only=True)
class Marks:
    """One job whose ranks are the scripts of MARKS, side by side; `rank_of` names them."""

    recorded: Recorded
    rank_of: dict[str, int]
    cwd: Path


@pytest.fixture(scope="session")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Marks:
    cwd = tmp_path_factory.mktemp("marks")
    for name, script in MARKS.items():
        (cwd / f"{name}.py").write_text(script)
    ranks = {name: rank for rank, name in enumerate(MARKS)}
    jobs = " & ".join(f"RANK={rank} python {name}.py" for name, rank in ranks.items())
    recorded = record_job(cwd, "bash", "-c", f"{jobs} & wait")
    return Marks(recorded=recorded, rank_of=ranks, cwd=cwd)
