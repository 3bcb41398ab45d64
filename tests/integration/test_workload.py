"""The workload trains the same model whatever the strategy and the launcher, learns, and refuses in one line."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shardprof.study.strategies import STRATEGIES
from shardprof.study.workloads import vit

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
MODULE = vit.__spec__.name if vit.__spec__ else ""
TINY = ["--layers", "2", "--width", "32", "--batch-size", "8", "--log-every", "1", "--seed", "7"]
RANKS = {strategy: 4 if strategy.endswith("-hybrid") else 2 for strategy in STRATEGIES if strategy != "none"}


def run_command(command: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def torchrun(ranks: int, *options: str) -> list[str]:
    return [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", str(ranks), "-m", MODULE, *TINY, *options]


def losses(done: subprocess.CompletedProcess[str]) -> list[float]:
    assert done.returncode == 0, done.stderr
    assert re.search(r"^accuracy \d+\.\d% on 297 test images$", done.stdout, re.MULTILINE), done.stdout
    return [float(loss) for loss in re.findall(r"^step .* loss (\d+\.\d+)", done.stdout, re.MULTILINE)]


@functools.cache
def reference_losses(ranks: int) -> list[float]:
    """DDP, which shards nothing, is what the others are compared with."""
    return losses(run_command(torchrun(ranks, "--strategy", "ddp", "--steps", "4", "--accumulation", "2")))


@pytest.mark.parametrize("strategy", [strategy for strategy in RANKS if strategy != "ddp"])
def test_every_strategy_does_the_same_maths(strategy: str) -> None:
    ranks = RANKS[strategy]
    found = losses(run_command(torchrun(ranks, "--strategy", strategy, "--steps", "4", "--accumulation", "2")))
    reference = reference_losses(ranks)
    assert len(set(reference)) == len(reference) == 4
    assert found == pytest.approx(reference, abs=2e-3)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp1-full", "fsdp2-full", "zero3"])
def test_lower_precision_and_checkpointing_train_alike(strategy: str) -> None:
    options = ["--steps", "4", "--accumulation", "2", "--precision", "bf16", "--checkpointing"]
    found = losses(run_command(torchrun(2, "--strategy", strategy, *options)))
    assert found == pytest.approx(reference_losses(2), abs=3e-2)


@pytest.mark.parametrize("start", [["--module", MODULE], [str(vit.__file__)]], ids=["module", "path"])
def test_the_deepspeed_launcher_starts_it(start: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", port, *start]
    done = run_command([*launcher, *TINY, "--strategy", "zero2", "--steps", "4", "--accumulation", "2"])
    assert losses(done) == pytest.approx(reference_losses(2), abs=2e-3)


def test_one_plain_process_learns_the_digits() -> None:
    options = ["--epochs", "2", "--layers", "2", "--log-every", "5", "--workers", "1"]
    found = losses(run_command([sys.executable, "-m", MODULE, *options]))
    assert found[0] == pytest.approx(2.3026, abs=1e-3)
    assert sum(found[-3:]) / 3 < 1.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "fsdp2-hybrid"], "1 ranks do not divide into shard groups of 2; change --shard-size"),
        (["--strategy", "zero1", "--precision", "fp16"], "DeepSpeed has no fp16 on a CPU; try --precision bf16"),
        (["--width", "30"], "width 30 is not a multiple of 4 heads"),
        (["--batch-size", "2000"], "1500 images are too few for a step of every rank; lower --batch-size"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(options: list[str], message: str) -> None:
    done = run_command([sys.executable, "-m", MODULE, *options])
    assert (done.returncode, done.stderr, done.stdout) == (2, f"vit: {message}\n", "")
