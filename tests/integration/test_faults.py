"""Whatever fails in or around shardprof: the job's output, exit code and losses are those of a run without it, and what
was recorded before can be read. docs/faults.md has a row for each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import RunFolder

pytest.importorskip("torch")
pytestmark = pytest.mark.integration
RecordJob = Callable[..., Any]
ReadRun = Callable[[Path], Any]

TRAIN = """
import os, sys, time, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
optimizer = torch.optim.AdamW(model.parameters())
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 8)), batch_size=4)
def train(first, end):
    for step, (batch,) in zip(range(first, end), data):
        loss = model(batch).square().mean()
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        print(step, loss.item().hex(), flush=True)
        if step == 9 and "fault" in globals():
            fault()
"""
LOSSES_OF = 14


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory, job_environment: Any) -> bytes:
    """What the training prints without shardprof."""
    script = tmp_path_factory.mktemp("bare") / "train.py"
    script.write_text(f"{TRAIN}\ntrain(0, {LOSSES_OF})\n")
    return subprocess.run(
        [sys.executable, str(script)], env=job_environment(), check=True, timeout=120, capture_output=True
    ).stdout


def with_fault(folder: Path, fault: str) -> tuple[str, str]:
    """A training to which something happens inside its captured window."""
    indented = "\n".join(f"    {line}" for line in fault.strip().splitlines())
    (folder / "train.py").write_text(f"{TRAIN}\ndef fault():\n{indented}\ntrain(0, {LOSSES_OF})\n")
    return "python", "train.py"


def is_readable(report_of: Any, recorded: Any) -> dict[str, Any]:
    """The report of what was recorded, which has the steps from the first one on."""
    report: dict[str, Any] = report_of(recorded.folder.root)
    assert [step.step for step in recorded.steps()][:10] == list(range(10))
    return report


def test_a_rank_that_is_killed_while_capturing(
    record_job: RecordJob, report_of: Any, losses: bytes, tmp_path: Path
) -> None:
    recorded = record_job(tmp_path, *with_fault(tmp_path, "os.kill(os.getpid(), 9)"))
    assert recorded.exit_code == 128 + signal.SIGKILL
    assert recorded.stdout == b"".join(losses.splitlines(keepends=True)[:10])
    report = is_readable(report_of, recorded)
    assert "nothing_captured" in {doubt["code"] for doubt in report["quality"]}


def test_a_recorder_that_is_killed(
    record_command: Any, job_environment: Any, read_run: ReadRun, report_of: Any, losses: bytes, tmp_path: Path
) -> None:
    job = with_fault(tmp_path, "os.kill(os.getppid(), 9); time.sleep(0.5)")
    command = record_command(*job, out=tmp_path / "run")
    with (tmp_path / "output").open("wb") as output:
        recorder = subprocess.Popen(command, cwd=tmp_path, env=job_environment(), stdout=output, stderr=-3)
    assert recorder.wait(timeout=60) == -signal.SIGKILL
    recorded = read_run(tmp_path / "run")
    pid = recorded.rank().pid
    while Path(f"/proc/{pid}").exists():  # nobody waits for it any more but init
        time.sleep(0.05)
    assert (tmp_path / "output").read_bytes() == losses
    assert len(recorded.steps()) == LOSSES_OF
    assert recorded.run.outcome is None
    assert is_readable(report_of, recorded)["ranks"][0]["steps"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]).returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("left_bytes", [0, 20_000])
def test_a_disk_that_is_full(
    record_job: RecordJob, report_of: Any, losses: bytes, tmp_path: Path, small_disk: Path, left_bytes: int
) -> None:
    """It fills up in the middle of the captured window, altogether or but for a little."""
    fill = f"""
disk = {str(small_disk)!r}
free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
open(disk + "/ballast", "wb").write(bytes(max(0, free - {left_bytes})))
"""
    recorded = record_job(tmp_path, *with_fault(tmp_path, fill), out="disk/run")
    assert (recorded.exit_code, recorded.stdout) == (0, losses)
    is_readable(report_of, recorded)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes root's right to write anywhere")
def test_a_run_folder_that_becomes_read_only(
    record_job: RecordJob, report_of: Any, losses: bytes, tmp_path: Path
) -> None:
    job = with_fault(tmp_path, 'os.system("chmod -R a-w run")')
    command = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *job)
    recorded = record_job(tmp_path, *command)
    subprocess.run(["chmod", "-R", "u+w", "run"], cwd=tmp_path, check=True)
    assert (recorded.exit_code, recorded.stdout) == (0, losses)
    is_readable(report_of, recorded)


def test_a_run_folder_that_is_taken_away(record_job: RecordJob, losses: bytes, tmp_path: Path) -> None:
    recorded = record_job(tmp_path, *with_fault(tmp_path, 'os.rename("run", "elsewhere"); open("run", "w").close()'))
    assert (recorded.exit_code, recorded.stdout) == (0, losses)


def test_a_clock_that_is_stepped(
    record_job: RecordJob, report_of: Any, losses: bytes, tmp_path: Path, faketime: str
) -> None:
    """Forth by a day and back again, for the recorder and the rank alike."""
    (tmp_path / "clock").write_text("+0")
    fault = 'open("clock", "w").write("+86400"); end = time.monotonic() + 1\nwhile time.monotonic() < end: pass'
    environment = {
        "LD_PRELOAD": faketime, "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    recorded = record_job(tmp_path, *with_fault(tmp_path, fault), environment=environment)
    assert (recorded.exit_code, recorded.stdout) == (0, losses), recorded.stderr
    steps = recorded.steps()
    assert [after.begin_ns for after in steps[1:]] == [before.end_ns for before in steps[:-1]]
    assert steps[-1].end_ns - steps[0].begin_ns < 60e9, "the steps go on as if nothing had happened"
    assert any("the clock was stepped by +86" in note for note in recorded.rank().notes)
    is_readable(report_of, recorded)


@pytest.fixture(scope="module")
def faketime() -> str:
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib").glob("faketime/libfaketime.so.1")]
    if not found:
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    return str(found[0])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes root's right to look at any process")
def test_a_rank_that_nobody_may_look_at(
    record_command: Any, job_environment: Any, read_run: ReadRun, losses: bytes, tmp_path: Path
) -> None:
    """Not dumpable: its files in /proc are another user's, for whom lacks the capability."""
    job = with_fault(tmp_path, "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(1)")
    command = record_command(*job, out=tmp_path / "run", options=("--watchdog", "60", "--stacks"))
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_ptrace,-dac_override,-dac_read_search", *command],
        cwd=tmp_path, env=job_environment(), capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, losses)
    assert len(read_run(tmp_path / "run").steps()) == LOSSES_OF


def test_two_jobs_in_one_folder(
    record_command: Any, job_environment: Any, read_run: ReadRun, losses: bytes, tmp_path: Path
) -> None:
    """Both are rank 0, at the same time: the first one is recorded, the second one told of."""
    job = with_fault(tmp_path, "time.sleep(1)")
    command = record_command(*job, out=tmp_path / "run")
    jobs = [
        subprocess.Popen(command, cwd=tmp_path, env=job_environment(), stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in jobs]
    assert [process.returncode for process in jobs] == [0, 0]
    assert [output.encode() for output, _ in results] == [losses, losses]
    assert sum("trains but is not recorded: rank 0 is" in errors for _, errors in results) == 1
    assert len(read_run(tmp_path / "run").steps()) == LOSSES_OF


EACH = """
import json
from shardprof.recording import shield
names = sorted(shield.SHIELDED)
state = {key: value.clone() for key, value in model.state_dict().items()}
import copy
moments = copy.deepcopy(optimizer.state_dict())
from shardprof.trace.request import Request, write_request
from pathlib import Path
import contextlib, io
def losses():
    model.load_state_dict(state); optimizer.load_state_dict(copy.deepcopy(moments))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        train(0, 5)
    return said.getvalue()
usual = losses()
for name in names:
    shield.FAULTS.add(name)
    assert losses() == usual, name
    if name.startswith("Housekeeper"):
        time.sleep(0.6)  # it works twice a second
    shield.FAULTS.discard(name)
shield.FAULTS.add("all")
assert losses() == usual
shield.FAULTS.clear()
assert losses() == usual
print(json.dumps(names))
"""


def test_a_bug_in_every_callback_of_a_rank_one_after_the_other(
    record_job: RecordJob, report_of: Any, tmp_path: Path
) -> None:
    """Windows open and close all the time meanwhile."""
    (tmp_path / "train.py").write_text(TRAIN + EACH)
    recorded = record_job(tmp_path, "python", "train.py", options=("--steps", "2:4", "--repeat", "1000"))
    assert recorded.exit_code == 0, recorded.stderr
    names = json.loads(recorded.stdout.splitlines()[-1])
    assert len(names) > 20
    notes = " ".join(recorded.rank().notes)
    for name in ("phase.phase_begins", "phase.phase_ends", "_stepping.step_returned", "Housekeeper._work"):
        assert name in names
        assert f"a fault asked for in {name}" in notes
    assert recorded.rank().dropped_records > 0
    assert report_of(recorded.folder.root)["ranks"][0]["steps"]


@pytest.mark.parametrize("fault", ["all", "Agent.training_seen", "_watch_optimizers.optimizer_patched"])
def test_a_bug_in_what_runs_once(record_job: RecordJob, losses: bytes, tmp_path: Path, fault: str) -> None:
    """In the recorder as well, with all that runs beside the job."""
    job = with_fault(tmp_path, "pass")
    options = ("--watchdog", "60", "--stacks")
    recorded = record_job(tmp_path, *job, environment={"SHARDPROF_FAULT": fault}, options=options)
    assert (recorded.exit_code, recorded.stdout) == (0, losses)
    assert f"a fault asked for in {fault if fault != 'all' else ''}" in recorded.stderr


def test_a_bug_in_a_distributed_job(
    fsdp2_script: Path, fsdp2_run: Any, record_job: RecordJob, free_port: Callable[[], str], tmp_path: Path
) -> None:
    shutil.copy(fsdp2_script, tmp_path / "train.py")
    command = ("torchrun", "--master-port", free_port(), "--nproc-per-node", "2", "train.py")
    recorded = record_job(tmp_path, *command, environment={"SHARDPROF_FAULT": "all"})
    assert (recorded.exit_code, recorded.stdout) == (0, fsdp2_run.stdout)


def test_a_planted_secret_is_nowhere(record_job: RecordJob, tmp_path: Path) -> None:
    secret = "planted-5d2e8b"
    names = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "NCCL_SECRET", "TORCH_NCCL_AUTH", "TORCHINDUCTOR_KEY", "PASSWORD")
    job = with_fault(tmp_path, "pass")
    recorded = record_job(tmp_path, *job, environment=dict.fromkeys(names, secret), options=("--stack", "--stacks"))
    assert recorded.exit_code == 0
    files = [path for path in RunFolder(tmp_path / "run").root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if secret.encode() in _unpacked(path)] == []


def _unpacked(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data
