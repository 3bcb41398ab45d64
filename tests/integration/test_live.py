"""A job while it runs: what is asked of it, what is seen of it, and what is told when it stands still."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.live import live_ranks
from shardprof.trace.schema import RunFolder

pytest.importorskip("torch")
pytestmark = pytest.mark.integration
ReadRun = Callable[[Path], Any]

ENDLESS = """
import os, pathlib, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
step, over = 0, torch.zeros(1)
while not over.item():
    if step == 30 and dist.get_rank() == 1:
        while pathlib.Path("wait").exists():
            time.sleep(0.05)
    model(torch.ones(4, 8)).mean().backward(); optimizer.step(); optimizer.zero_grad()
    over[0] = pathlib.Path("over").exists() and dist.get_rank() == 0
    dist.broadcast(over, 0)
    step += 1
    time.sleep(0.02)
time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
dist.destroy_process_group()
os.write(1, b"trained\\n")  # in one piece, beside the other rank's
"""


class Job:
    """Two ranks that train until they are told to stop."""

    def __init__(self, cwd: Path, command: list[str], environment: dict[str, str]) -> None:
        self.cwd = cwd
        self.run = RunFolder(cwd / "run")
        self._errors = (cwd / "errors").open("wb")
        self.process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=-1, stderr=self._errors)

    def wait_for(self, is_so: Callable[[], bool], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.1)

    def step(self) -> int:
        ranks = live_ranks(self.run)
        return min(rank.step for rank in ranks) if len(ranks) == 2 else -1

    def shardprof(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shardprof", *arguments]
        return subprocess.run(command, cwd=self.cwd, capture_output=True, text=True, timeout=90, check=False)

    def end(self) -> bytes:
        (self.cwd / "over").touch()
        output, _ = self.process.communicate(timeout=90)
        self._errors.close()
        return output

    @property
    def said(self) -> str:
        return (self.cwd / "errors").read_text()


@pytest.fixture
def start(
    tmp_path: Path, record_command: Any, job_environment: Any, free_port: Callable[[], str]
) -> Iterator[Callable[..., Job]]:
    jobs = []

    def start(*options: str) -> Job:
        (tmp_path / "train.py").write_text(ENDLESS)
        torchrun = ("torchrun", "--master-port", free_port(), "--nproc-per-node", "2", "train.py")
        command = record_command(*torchrun, out=tmp_path / "run", options=options)
        jobs.append(Job(tmp_path, command, job_environment()))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.end()


def test_a_light_recording_captures_what_it_is_asked_for(start: Callable[..., Job], read_run: ReadRun) -> None:
    job = start("--mode", "light")
    job.wait_for(lambda: job.step() > 20)

    asked = job.shardprof("trigger", "run", "--steps", "3")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "3 ranks" not in asked.stdout
    assert "of 2 ranks will be captured in about" in asked.stdout
    assert "captured: shardprof report run" in asked.stdout

    seen = job.shardprof("top", "run")
    assert seen.returncode == 0
    assert "running" in seen.stdout
    assert "DDP" in seen.stdout
    assert "light: nothing is captured unless asked for" in seen.stdout
    assert "captured steps" in seen.stdout
    assert [line.split()[0] for line in seen.stdout.splitlines() if line.strip()[:2] in ("0 ", "1 ")] == ["0", "1"]

    assert job.end() == b"trained\ntrained\n"
    assert job.process.returncode == 0
    recorded = read_run(job.run.root)
    windows = [[(w.first_step, w.last_step) for w in recorded.rank(rank).windows] for rank in (0, 1)]
    assert windows[0] == windows[1]
    ((first, last),) = windows[0]
    assert last - first == 2
    for rank in (0, 1):
        assert {f"ProfilerStep#{step}" for step in range(first, last + 1)} <= set(recorded.names(rank))
        assert len(recorded.steps(rank)) > last

    over = job.shardprof("trigger", "run")
    assert over.returncode == 2
    assert "the job of run is over" in over.stderr
    assert over.stderr.count("\n") == 1
    assert "over, exit code 0" in job.shardprof("top", "run").stdout


def test_top_follows_a_job_in_the_terminal_until_ctrl_c(start: Callable[..., Job]) -> None:
    job = start()
    job.wait_for(lambda: job.step() > 3)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "shardprof", "top", str(job.run.root)])
    shown = b""
    while shown.count(b"shardprof top") < 3:  # it is drawn again and again
        shown += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"Traceback" not in shown
    assert job.end() == b"trained\ntrained\n"


def test_the_watchdog_names_who_keeps_the_others_waiting_and_leaves_the_job_alone(
    start: Callable[..., Job], tmp_path: Path
) -> None:
    (tmp_path / "wait").touch()
    job = start("--mode", "light", "--watchdog", "3")
    job.wait_for(lambda: "the job is left alone" in job.said)
    assert "no progress for 3 s on ranks 0-1" in job.said
    assert "rank 0 is in step 30, " in job.said
    assert "rank 1 is behind: rank 0 waits in " in job.said
    (report,) = (job.run.root / "hosts").glob("*/watchdog/1")
    stacks = (report / "rank-00001.txt").read_text()
    assert re.search(r"<module> \(train.py:1[01]\)", stacks), stacks
    calls = json.loads((job.run.rank(0) / "flight.json").read_bytes())["entries"]
    assert not calls[-1]["retired"]

    (job.cwd / "wait").unlink()
    job.wait_for(lambda: job.step() > 40)
    assert job.end() == b"trained\ntrained\n"
    assert job.process.returncode == 0
    assert not (job.run.rank(0) / "flight.json").exists(), "it went on: what it was stuck in explains nothing any more"


def test_the_watchdog_tells_of_a_rank_that_is_stopped(start: Callable[..., Job]) -> None:
    job = start("--mode", "light", "--watchdog", "3")
    job.wait_for(lambda: job.step() > 5)
    stopped = live_ranks(job.run)[0].record.pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        job.wait_for(lambda: "the job is left alone" in job.said)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert "no progress for 3 s on ranks 0-1" in job.said
    assert job.end() == b"trained\ntrained\n"
