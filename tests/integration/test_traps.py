"""What makes a recording miss its ranks or lose what it has: the traps of docs/launchers.md, each in a real job."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import jobs
from .jobs import RecordJob, RunBoth, check_ranks

pytest.importorskip("torch")
pytestmark = pytest.mark.integration


@pytest.fixture
def run_both(
    record_job: RecordJob, job_environment: Callable[..., dict[str, str]], free_port: Callable[[], str], tmp_path: Path
) -> RunBoth:
    return functools.partial(jobs.run_both, record_job, job_environment, free_port, tmp_path)


COMPILED = """
import time, psutil, torch, torch.distributed as dist
from torch._inductor.async_compile import AsyncCompile
from torch.utils.data import DataLoader, TensorDataset
def helpers():
    return " ".join(" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True))
def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    AsyncCompile.wait_pool_ready()  # without a GPU torch would compile without workers
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8))
    model = torch.nn.parallel.DistributedDataParallel(torch.compile(layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn(40, 8))
    for batch, in DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context="forkserver"):
        loss = model(batch).square().mean()
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        started = helpers()
        if dist.get_rank() == 0:
            print(loss.item().hex(), flush=True)
    assert "compile_worker" in started and "forkserver" in started, started
    time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
    dist.destroy_process_group()
if __name__ == "__main__":
    main()
"""


SOON_COMPILED = {"TORCHINDUCTOR_VEC_ISA_OK": "0", "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0"}


def test_a_compiled_model_and_the_processes_that_help_it(run_both: RunBoth, tmp_path: Path) -> None:
    """Compile workers, their forkserver and resource trackers all carry the rank's RANK."""
    recorded = run_both(
        COMPILED, "torchrun", "--master-port", "PORT", "--nproc-per-node", "1", "train.py",
        environment={**SOON_COMPILED, "TORCHINDUCTOR_CACHE_DIR": "cache", "TORCHINDUCTOR_COMPILE_THREADS": "2"},
    )  # fmt: skip
    check_ranks(recorded, ranks=1, steps=10)
    assert list((tmp_path / "recorded" / "cache").rglob("*.so")), "it was really compiled"
    assert recorded.rank().framework == "DDP"
    assert all(step.data_ns > 0 and step.backward_ns > 0 for step in recorded.steps())
    assert any(name.startswith("Torch-Compiled Region") for name in recorded.names())


ALONE = """
import os, signal, sys, time, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10):
    if step == 6:
        print("in the window", flush=True)
        exec(os.environ["END"])
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
"""


@pytest.fixture(scope="module")
def isolated_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of an environment of its own, which sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text("".join(f"{entry}\n" for entry in sys.path if entry.endswith("-packages")))
    return folder / "bin" / "python"


@pytest.fixture
def install_hook(isolated_python: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `shardprof install-hook` in that environment."""
    here = str(Path(__file__).parents[2])
    command = f"import sys; sys.path.insert(0, {here!r}); from shardprof.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(isolated_python), "-c", command, "install-hook", *options]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)

    return run


def hook_files(python: Path) -> set[str]:
    return {path.name for path in python.parents[1].glob("lib/python*/site-packages/*hook*") if path.is_file()}


def test_an_isolated_interpreter_needs_the_hook(
    record_job: RecordJob, isolated_python: Path, install_hook: Any, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(ALONE)
    environment = {"END": "pass"}
    without = record_job(tmp_path, str(isolated_python), "-I", "train.py", out="without", environment=environment)
    assert (without.exit_code, without.run.ranks) == (0, ())

    first, second = install_hook(), install_hook()
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "now" in first.stdout
    assert "already" in second.stdout
    assert hook_files(isolated_python) == {"shardprof_hook.py", "shardprof_hook.pth", "shardprof_hook.start"}
    for flag in ("-I", "-s"):  # with -s the bootstrap is run by sitecustomize, too
        recorded = record_job(
            tmp_path, str(isolated_python), flag, "train.py", out=f"run{flag}", environment=environment,
            options=jobs.STEPS,
        )  # fmt: skip
        assert recorded.exit_code == 0
        assert recorded.stdout == b"in the window\n"
        check_ranks(recorded, ranks=1, steps=10)

    assert "no longer" in install_hook("--remove").stdout
    assert "there is no hook" in install_hook("--remove").stdout
    assert hook_files(isolated_python) == set()


def test_the_hook_leaves_a_process_that_is_not_recorded_alone(isolated_python: Path, install_hook: Any) -> None:
    install_hook()
    code = "import sys; print([name for name in sys.modules if 'shardprof' in name], len(sys.meta_path))"
    printed = [
        subprocess.run(
            [str(isolated_python), *flags, "-c", code], env={"PYTHONPATH": "/nowhere/bootstrap"},
            capture_output=True, text=True, check=True, timeout=30,
        )
        for flags in ([], ["-I"])
    ]  # fmt: skip
    assert [(done.stdout, done.stderr) for done in printed] == [("['shardprof_hook'] 3\n", "")] * 2
    install_hook("--remove")


def test_the_hook_says_where_it_cannot_be_put(isolated_python: Path, install_hook: Any) -> None:
    (site,) = isolated_python.parents[1].glob("lib/python*/site-packages")
    (site / "shardprof_hook.py").mkdir()  # root may write where the mode says nobody may
    done = install_hook()
    (site / "shardprof_hook.py").rmdir()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "shardprof_hook.py" in done.stderr


def end_in_window(record_job: RecordJob, cwd: Path, end: str) -> Any:
    """A training that ends by `end` in step 6, of captured steps 4 to 6."""
    (cwd / "train.py").write_text(ALONE)
    recorded = record_job(cwd, "python", "train.py", options=jobs.STEPS, environment={"END": end})
    assert recorded.stdout == b"in the window\n"
    assert [step.step for step in recorded.steps()] == list(range(6))
    return recorded


def test_os_exit_keeps_the_open_window(record_job: RecordJob, tmp_path: Path) -> None:
    child = "if os.fork() == 0: os._exit(0)"
    recorded = end_in_window(record_job, tmp_path, f"{child}\nos.wait(); os._exit(7)")
    assert recorded.exit_code == 7
    (window,) = recorded.rank().windows
    assert (window.first_step, window.last_step) == (4, 5)
    names = {event["name"] for event in recorded.events(file=window.file)}
    assert {"ProfilerStep#4", "ProfilerStep#5"} <= names


def test_sigkill_costs_the_open_window_and_no_step(record_job: RecordJob, report_of: Any, tmp_path: Path) -> None:
    """What the kernel does to a rank when memory runs out."""
    recorded = end_in_window(record_job, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert recorded.exit_code == recorded.run.outcome.exit_code == 137
    assert recorded.rank().windows == ()
    assert "recorded 1 rank, 6 steps, no step captured" in recorded.stderr
    assert [rank["rank"] for rank in report_of(recorded.folder.root)["ranks"]] == [0]


KILLED = """
import os, signal, sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
dist.barrier()
if dist.get_rank() == 1:
    sys.exit(3)
time.sleep(60)
"""


def test_torchruns_sigterm_to_the_peers_of_a_failed_rank(
    record_job: RecordJob, free_port: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(KILLED)
    options = ("--master-port", free_port(), "--nproc-per-node", "2")
    recorded = record_job(tmp_path, "torchrun", *options, "train.py", options=jobs.STEPS)
    assert recorded.exit_code == 1, "torchrun's own"
    for rank in (0, 1):
        assert [step.step for step in recorded.steps(rank)] == list(range(6))
        (window,) = recorded.rank(rank).windows
        assert (window.first_step, window.last_step) == (4, 5)
        names = {event["name"] for event in recorded.events(rank, window.file)}
        assert {"ProfilerStep#4", "ProfilerStep#5"} <= names
