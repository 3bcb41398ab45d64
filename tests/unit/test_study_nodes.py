"""Processes of a training end together, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shardprof.study.bench import nodes
from shardprof.study.bench.nodes import run_nodes

SLEEP = "import time; time.sleep(60)"
TELLS_ITS_PID = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
PARENT = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "{SLEEP}"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def waited_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return path.read_text()


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_exit_codes_and_outputs_are_each_nodes_own(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "1"]
    commands = [python("print('a')"), python("import sys; sys.stderr.write('b'); sys.exit(3)")]
    assert run_nodes(commands, files, timeout_s=30) == ([0, 3], False)
    assert [file.read_text() for file in files] == ["a\n", "b"]


def test_what_takes_too_long_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    codes, over = run_nodes([python(PARENT, str(tmp_path / "pid"))], [tmp_path / "0"], timeout_s=3)
    assert over
    assert codes == [-signal.SIGTERM]
    assert is_gone(int(waited_for(tmp_path / "pid")))


def test_a_node_is_not_waited_for_long_after_another_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_OTHERS_MAY_TAKE_S", 0.5)
    commands = [python(SLEEP), python("raise SystemExit(5)")]
    codes, over = run_nodes(commands, [tmp_path / "0", tmp_path / "1"], timeout_s=50)
    assert (codes, over) == ([-signal.SIGTERM, 5], False)


def test_a_study_that_is_killed_takes_its_training_with_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from shardprof.study.bench.nodes import run_nodes\n"
    code += "run_nodes([sys.argv[1:-1]], [Path(sys.argv[-1])], 60)"
    training_command = python(TELLS_ITS_PID, str(tmp_path / "pid"))
    study = subprocess.Popen(python(code, *training_command, str(tmp_path / "0")))
    training = int(waited_for(tmp_path / "pid"))
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    assert is_gone(training)
