"""The command under `shardprof record` behaves as without it: output, exit code, signals, whatever goes wrong."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration
RecordJob = Callable[..., Any]
StartJob = Callable[..., "subprocess.Popen[str]"]
ReadRun = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("script", "exit_code"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", 139), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_the_jobs(record_job: RecordJob, tmp_path: Path, script: str, exit_code: int) -> None:
    recorded = record_job(tmp_path, "bash", "-c", script)
    assert recorded.exit_code == exit_code
    assert recorded.run.outcome.exit_code == exit_code


def test_input_and_output_pass_through_untouched(record_job: RecordJob, tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    assert record_job(tmp_path, "cat", stdin=data).stdout == data


def test_a_job_that_never_trains_is_told(record_job: RecordJob, tmp_path: Path) -> None:
    recorded = record_job(tmp_path, "true")
    assert "no rank was recorded" in recorded.stderr
    assert recorded.run.ranks == ()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no command"),
        (["--", "no-such-program-here"], "no-such-program-here: no such program"),
        (["--steps", "5", "--", "true"], "--steps 5"),
        (["--steps", "9:9", "--", "true"], "--steps 9:9"),
        (["--repeat", "0", "--", "true"], "--repeat 0"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shardprof", "record", *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_program_leaves_no_run(record_job: RecordJob, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("neither script nor binary\n")
    program.chmod(0o755)
    recorded = record_job(tmp_path, str(program))
    assert recorded.exit_code == 2
    assert recorded.stderr.count("\n") == 1
    assert not recorded.folder.root.exists()


def test_without_a_writable_folder_the_job_runs_unrecorded(record_job: RecordJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorded = record_job(tmp_path, "bash", "-c", "echo out; exit 4", out="file/run")
    assert recorded.exit_code == 4
    assert recorded.stdout == b"out\n"
    assert recorded.stderr.count("the job runs unrecorded") == 2


def test_a_run_that_is_over_is_not_mixed_into(record_job: RecordJob, tmp_path: Path) -> None:
    first = record_job(tmp_path, "bash", "-c", "exit 5")
    second = record_job(tmp_path, "bash", "-c", "exit 6")
    assert first.run.outcome.exit_code == 5
    assert str(tmp_path / "run-2") in second.stderr
    assert (tmp_path / "run-2" / "run.json").exists()


@pytest.fixture
def start_job(
    record_command: Callable[..., list[str]], job_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> Iterator[StartJob]:
    """Starts a command under `shardprof record` and returns once it has printed "ready"; waited for at the end."""
    started = []

    def start(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            record_command(*command, out=tmp_path / "run"),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=job_environment(),
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.communicate(timeout=60)


def test_a_signal_to_the_recorder_reaches_the_job_once(start_job: StartJob) -> None:
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    process = start_job("bash", "-c", script)
    assert process.stdout is not None
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "usr1\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "term\n"
    assert process.wait(timeout=30) == 7


TRAINS_FOR_EVER = """
import itertools, signal, sys, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in itertools.count():
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
    if step == 101:
        print("ready", flush=True)
        signal.pause()
"""


def test_ctrl_c_in_the_terminal_stops_the_job_once_and_leaves_a_readable_run(
    read_run: ReadRun,
    record_command: Callable[..., list[str]],
    job_environment: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(TRAINS_FOR_EVER)
    command = record_command("python", "train.py", out=tmp_path / "run", options=("--steps", "99:200"))
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe(command[0], command, job_environment())
    output = b""
    while b"ready" not in output:
        output += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    output += _read_all(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT
    assert output.count(b"KeyboardInterrupt") == 1
    recorded = read_run(tmp_path / "run")
    assert recorded.run.outcome.exit_code == 130
    assert [step.step for step in recorded.steps()] == list(range(102))
    assert recorded.rank().windows[0].last_step == 101
    assert {"ProfilerStep#99", "ProfilerStep#101"} <= set(recorded.names())


def _read_all(terminal: int) -> bytes:
    output = b""
    while True:
        try:
            data = os.read(terminal, 1024)
        except OSError:  # the last process has closed its end
            return output
        if not data:
            return output
        output += data


def test_a_second_recorder_joins_the_live_run(record_job: RecordJob, start_job: StartJob, tmp_path: Path) -> None:
    first = start_job("bash", "-c", "echo ready; read line; exit 3")
    second = record_job(tmp_path, "true")
    assert second.run.outcome is None, "the first one still runs"
    first.communicate("\n", timeout=30)
    assert len(second.run.hosts) == 2
    assert second.run.hosts[1] == f"{second.run.hosts[0]}-2"
    assert second.run.outcome.exit_code == 3


def test_the_users_sitecustomize_runs_as_before(record_job: RecordJob, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.theirs = True\n")
    code = "import sitecustomize, sys; print(sys.theirs, sitecustomize.__file__, 'torch' in sys.modules)"
    recorded = record_job(tmp_path, "python", "-c", code, environment={"PYTHONPATH": str(site)})
    assert recorded.stdout.decode() == f"True {site / 'sitecustomize.py'} False\n"


STOPPED = """
import datetime, sys, time, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(10):
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
print("ready", flush=True)
if sys.argv[1] == "in-saving":
    import shardprof.recording.rank.termination
    shardprof.recording.rank.termination.SAVE_WITHIN_S = 1
    torch.profiler.profiler._KinetoProfile.stop_trace = lambda _: time.sleep(120)
if sys.argv[1] != "in-c++":
    time.sleep(120)
wait = datetime.timedelta(seconds=120)
torch.distributed.TCPStore("localhost", 0, 1, True, timeout=wait).get("never set")
"""


@pytest.mark.parametrize(("where", "windows"), [("in-python", 1), ("in-saving", 0), ("in-c++", 0)])
def test_sigterm_while_capturing_keeps_what_it_can_and_kills_all_the_same(
    start_job: StartJob, read_run: ReadRun, tmp_path: Path, where: str, windows: int
) -> None:
    (tmp_path / "train.py").write_text(STOPPED)
    process = start_job("python", "train.py", where)
    time.sleep(0.5)  # into the wait; earlier would do too, and test less
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    recorded = read_run(tmp_path / "run")
    assert len(recorded.rank().windows) == windows
    if windows:
        names = {event["name"] for event in recorded.events(file="trace.json")}
        assert {"ProfilerStep#7", "ProfilerStep#9"} <= names
