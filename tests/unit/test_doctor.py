"""`shardprof doctor` tells what is broken, whatever way it is broken, and never breaks itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardprof.recording import doctor
from shardprof.recording.doctor import State


def run_doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shardprof", "doctor"]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200)


def line_of(part: str, output: str) -> str:
    return next(line for line in output.splitlines() if line.split()[1:2] == [part])


def test_a_whole_machine_is_a_line_a_part_without_colour_in_a_pipe() -> None:
    done = run_doctor()
    assert done.returncode == 0
    assert done.stderr == ""
    for part in ("python", "engine", "torch", "gloo", "DeepSpeed", "disk"):
        assert line_of(part, done.stdout).startswith("works ")
    assert "Recording and reading work here" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_torch_that_cannot_be_imported_is_reported_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cuda.so: cannot open shared object file')\n")
    done = run_doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert line_of("torch", done.stdout).startswith("broken ")
    assert "libtorch_cuda.so: cannot open shared object file" in done.stdout
    assert "fix: install it anew" in done.stdout
    assert "Recording cannot work here" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_probe_that_crashes_says_of_what() -> None:
    assert doctor._probe("import os; os.kill(os.getpid(), 11)").error == "died of signal 11"


def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.5)
    assert doctor._probe("import time; time.sleep(60)").error == "no answer within 0.5 s"


def test_a_torch_that_is_not_there_is_absent_not_broken() -> None:
    check = doctor._torch(doctor._Probe(error="ModuleNotFoundError: No module named 'torch'"))
    assert check.state is State.ABSENT
    assert "pip install" in check.fix


def test_gpus_that_torch_cannot_use_are_named_as_such() -> None:
    nvml = doctor._Probe(facts={"driver": "600.1", "gpus": 4})
    check = doctor._gpus({"gpus": [], "cuda_build": None}, nvml)
    assert (check.state, check.fix) == (State.BROKEN, "install a torch that is built for CUDA")
