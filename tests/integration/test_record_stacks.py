"""The stacks of real processes by the real py-spy: on the run's clock, in chunks, and never at the job's cost."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.beside.stacks import py_spy
from shardprof.recording.beside.stacks import recorder as stacks
from shardprof.recording.beside.stacks.files import FOLDED_FILE, PICTURE_FILE
from shardprof.recording.beside.stacks.recorder import StackRecorder, dump
from shardprof.trace.schema import RANK_FILE, STACKS_FILE, RankRecord, RunFolder, write_whole

pytestmark = pytest.mark.integration
HOST = "node-a"

TURNS = """
import os, sys, time
from shardprof.recording.rank.permit import permit_reading
permit_reading(os.getppid())
def busy(end_ns):
    while time.time_ns() < end_ns:
        pass
def a(end_ns): busy(end_ns)
def b(end_ns): busy(end_ns)
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for turn in (a, b):
        begin_ns = time.time_ns()
        turn(begin_ns + 200_000_000)
        print(turn.__name__, begin_ns, flush=True)
"""


@dataclass
class Bench:
    """A run folder with ranks that are processes of TURNS, under a StackRecorder."""

    run: RunFolder
    notes: list[str] = field(default_factory=list)
    jobs: list[subprocess.Popen[str]] = field(default_factory=list)

    def rank(self, seconds: float) -> subprocess.Popen[str]:
        """Start a process that checks in as the next rank."""
        command = [sys.executable, "-c", TURNS, str(seconds)]
        job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        check_in(self.run, len(self.jobs), job.pid)
        self.jobs.append(job)
        return job

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        recorder = StackRecorder(NodeRanks(self.run, HOST), self.notes.append)
        recorder.start()
        try:
            yield
        finally:
            recorder.stop()

    def trace(self, rank: int = 0) -> Any:
        return json.loads(gzip.decompress((self.run.rank(rank) / STACKS_FILE).read_bytes()))

    def left_behind(self) -> list[str]:
        return [path.name for path in self.run.host(HOST).iterdir()]


def check_in(run: RunFolder, rank: int, pid: int) -> None:
    run.host(HOST).mkdir(parents=True, exist_ok=True)
    run.rank(rank).mkdir(parents=True)
    record = RankRecord(
        rank=rank, world_size=1, local_rank=rank, host=HOST, pid=pid, device="cpu", started_ns=1, versions={}
    )
    write_whole(run.rank(rank) / RANK_FILE, record)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(RunFolder(tmp_path / "run"))
    yield bench
    for job in bench.jobs:
        job.kill()
        with job:  # closes its output and waits for it
            pass
    assert bench.left_behind() == []
    assert [spies(job.pid) for job in bench.jobs] == [[]] * len(bench.jobs)


def spies(pid: int) -> list[int]:
    """The py-spys that read process `pid`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if arguments[0].endswith(b"py-spy") and str(pid).encode() in arguments:
                found.append(int(folder.name))
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `condition` says once it says anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def calls(trace: Any) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def test_slices_begin_when_the_functions_do(bench: Bench) -> None:
    with bench.recording():
        printed, _ = bench.rank(4).communicate()
    true_ns: dict[str, list[int]] = {"a": [], "b": []}
    for line in printed.splitlines():
        name, begin_ns = line.split()
        true_ns[name].append(int(begin_ns))
    trace = bench.trace()
    uncertainty_ns = trace["shardprof"]["stacks"]["anchor_uncertainty_ns"]
    turns = [call for call in calls(trace) if call["name"] in true_ns][1:]  # it was in the first one already
    begins_ns = [(call["name"], trace["baseTimeNanoseconds"] + 1000 * call["ts"]) for call in turns]
    errors_ns = [min(abs(begin_ns - true) for true in true_ns[name]) for name, begin_ns in begins_ns]
    assert len(errors_ns) >= 10
    assert statistics.median(errors_ns) < 30_000_000  # half a sampling interval on an idle machine
    assert 0 < uncertainty_ns < 6_000_000  # half a tick of the kernel's clock, where looking was too late
    assert bench.notes == []


def test_the_slices_of_a_thread_nest(bench: Bench) -> None:
    with bench.recording():
        bench.rank(1.5).communicate()
    found = calls(bench.trace())
    assert {"<module>", "a", "b", "busy"} <= {call["name"] for call in found}
    assert {call["args"]["file"].rpartition(":")[0] for call in found} == {"<string>"}
    assert {(call["pid"], call["tid"]) for call in found} == {(bench.jobs[0].pid, bench.jobs[0].pid)}
    for outer, inner in itertools.combinations(found, 2):
        end = outer["ts"] + outer["dur"]
        assert inner["ts"] >= end or inner["ts"] + inner["dur"] <= end


def test_the_flame_graph_is_of_the_same_samples(bench: Bench) -> None:
    with bench.recording():
        bench.rank(1.5).communicate()
    own_us: Counter[str] = Counter()
    for line in (bench.run.rank(0) / FOLDED_FILE).read_text().splitlines():
        stack, _, time_us = line.rpartition(" ")
        own_us[stack.rpartition(";")[2].split()[0]] += int(time_us)
    sampled_us = sum(call["dur"] for call in calls(bench.trace()) if call["name"] == "<module>")
    assert own_us["busy"] > 0.8 * sampled_us
    assert "busy" in (bench.run.rank(0) / PICTURE_FILE).read_text()


def test_a_killed_py_spy_loses_its_chunk_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CHUNK_S", 1)
    monkeypatch.setattr(stacks, "RETRY_S", 0.1)
    with bench.recording():
        job = bench.rank(60)
        wait_for((bench.run.rank(0) / STACKS_FILE).exists)
        before = len(bench.trace()["shardprof"]["stacks"]["chunks"])
        os.kill(wait_for(lambda: spies(job.pid))[0], signal.SIGKILL)
        wait_for(lambda: len(bench.trace()["shardprof"]["stacks"]["chunks"]) > before)
        assert job.poll() is None
    assert bench.notes == ["stacks are missing: py-spy was killed by signal 9"]


def test_stopping_writes_what_there_is_though_signals_are_blocked(bench: Bench) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as they are beside a job
    try:
        with bench.recording():
            job = bench.rank(60)
            spy = wait_for(
                lambda: [spy for spy in spies(job.pid) if len(list(Path(f"/proc/{spy}/task").iterdir())) > 2]
            )
            assert os.getsid(spy[0]) != os.getsid(0), "the terminal's signals do not reach it"
            time.sleep(0.5)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert job.poll() is None
    assert {"a", "b"} & {call["name"] for call in calls(bench.trace())}
    assert bench.notes == []


def test_without_py_spy_there_is_a_note(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    job = bench.rank(0.1)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with bench.recording():
        job.communicate()
    assert bench.notes == ["stacks are missing: py-spy is not installed, try `pip install py-spy`"]
    assert dump(os.getpid()) is None


def test_without_the_right_to_read_there_is_one_note(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A py-spy that has no rights, looking at processes that let nobody look."""
    monkeypatch.setattr(stacks, "RETRY_S", 0.1)
    weaker = "--bounding-set=-all" if os.geteuid() == 0 else ""
    powerless = tmp_path / "py-spy"
    powerless.write_text(f'#!/bin/sh\nexec setpriv {weaker} {py_spy.find()} "$@"\n')
    powerless.chmod(0o755)
    closed = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # not dumpable\n"
    monkeypatch.setattr(sys.modules[__name__], "TURNS", closed + TURNS.replace("permit_reading(os", "id(os"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with bench.recording():
        jobs = [bench.rank(60), bench.rank(60)]
        wait_for(lambda: bench.notes)
        time.sleep(1.0)
    assert [job.poll() for job in jobs] == [None, None]
    assert [note.partition(":")[2].partition(":")[0] for note in bench.notes] == [
        " py-spy may not read the job's processes"
    ]
    assert dump(jobs[0].pid) is None


RECORDER = """
import sys, time
from pathlib import Path
from shardprof.recording.beside.stacks import recorder as stacks
from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.trace.schema import RunFolder
stacks.CHUNK_S = 2
stacks.StackRecorder(NodeRanks(RunFolder(Path(sys.argv[1])), sys.argv[2]), print).start()
time.sleep(60)
"""


def test_a_killed_recorder_leaves_no_py_spy_for_long(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", TURNS, "60"], stdout=subprocess.DEVNULL) as job:
        check_in(run, 0, job.pid)
        with subprocess.Popen([sys.executable, "-c", RECORDER, str(run.root), HOST]) as recorder:
            wait_for(lambda: spies(job.pid))
            recorder.kill()
        wait_for(lambda: not spies(job.pid))
        assert job.poll() is None
        job.kill()


def test_a_dump_names_the_functions_that_run(bench: Bench) -> None:
    job = bench.rank(60)
    time.sleep(0.1)
    text = dump(job.pid) or ""
    assert "busy" in text
    assert "<module>" in text


def test_there_is_no_dump_of_what_is_no_python() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        assert dump(sleeper.pid) is None
        sleeper.kill()
    assert dump(sleeper.pid) is None


def test_a_distributed_training_computes_the_same(
    fsdp2_script: Path, fsdp2_run: Any, record_job: Any, free_port: Any, tmp_path: Path
) -> None:
    torchrun = ("torchrun", "--master-port", free_port(), "--nproc-per-node", "2", str(fsdp2_script))
    recorded = record_job(tmp_path, *torchrun, options=("--stacks",))
    assert recorded.exit_code == 0
    assert recorded.stdout == fsdp2_run.stdout
    assert "stacks are missing" not in recorded.stderr
    for rank in (0, 1):
        trace = json.loads(gzip.decompress((recorded.folder.rank(rank) / STACKS_FILE).read_bytes()))
        assert trace["shardprof"]["stacks"]["samples"] > 10
        in_script = [call for call in calls(trace) if call["args"]["file"].startswith(f"{fsdp2_script}:")]
        steps = recorded.steps(rank)
        begins_ns = [trace["baseTimeNanoseconds"] + 1000 * call["ts"] for call in in_script]
        assert any(steps[0].begin_ns <= begin_ns <= steps[-1].end_ns for begin_ns in begins_ns)
