"""The workload trains the same model whatever the strategy and the launcher, learns, and refuses in one line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shardprof.study.workloads import vit

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
MODULE = vit.__spec__.name if vit.__spec__ else ""
TINY = ["--layers", "2", "--width", "32", "--batch-size", "8", "--steps", "3", "--log-every", "1"]


def run_command(command: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def losses(done: subprocess.CompletedProcess[str]) -> list[float]:
    assert done.returncode == 0, done.stderr
    assert re.search(r"^accuracy \d+\.\d% on 297 test images$", done.stdout, re.MULTILINE), done.stdout
    return [float(loss) for loss in re.findall(r"^step .* loss (\d+\.\d+)", done.stdout, re.MULTILINE)]


def test_torchrun_and_deepspeed_start_the_same_training() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", MODULE, "--strategy", "ddp"]
    deepspeed = ["deepspeed", "--num_gpus", "2", "--master_port", port, str(vit.__file__), "--strategy", "zero2"]
    found = [losses(run_command([str(BIN / start[0]), *start[1:], *TINY])) for start in (torchrun, deepspeed)]
    assert len(set(found[0])) == 3
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_one_plain_process_learns_the_digits() -> None:
    options = ["--epochs", "2", "--layers", "2", "--log-every", "5", "--workers", "1"]
    found = losses(run_command([sys.executable, "-m", MODULE, *options]))
    assert found[0] == pytest.approx(2.3026, abs=1e-3)
    assert sum(found[-3:]) / 3 < 1.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "zero1", "--precision", "fp16"], "DeepSpeed has no fp16 on a CPU; try --precision bf16"),
        (["--batch-size", "2000"], "1500 images are too few for a step of every rank; lower --batch-size"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(options: list[str], message: str) -> None:
    done = run_command([sys.executable, "-m", MODULE, *options])
    assert (done.returncode, done.stderr, done.stdout) == (2, f"vit: {message}\n", "")
