"""A job beside itself: recorded, and as it is without shardprof. What it prints and how it ends must not differ."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TIMEOUT_S = 240
STEPS = ("--steps", "4:7")
RecordJob = Callable[..., Any]
"""The fixture `record_job`."""
RunBoth = Callable[..., Any]
"""The fixture `run_both` of the tests that use this module."""

DDP = """
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10):
    loss = model(torch.ones(4, 8)).square().mean()
    loss.backward(); optimizer.step(); optimizer.zero_grad()
    if dist.get_rank() == 0:
        print(step, loss.item().hex(), flush=True)
time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
dist.destroy_process_group()
"""


def run_both(
    record_job: RecordJob,
    job_environment: Callable[..., dict[str, str]],
    free_port: Callable[[], str],
    cwd: Path,
    script: str,
    *command: str,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run `command` on `script` (train.py) recorded and bare, at the same time; a part PORT becomes a free port.

    Both must end in the same way after the same output; the result is what was recorded.
    """
    for name in ("bare", "recorded"):
        (cwd / name).mkdir()
        (cwd / name / "train.py").write_text(script)
    bare = subprocess.Popen(
        _with_port(command, free_port()), cwd=cwd / "bare", env=job_environment(environment),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    recorded = record_job(cwd / "recorded", *_with_port(command, free_port()), options=STEPS, environment=environment)
    output, errors = bare.communicate(timeout=TIMEOUT_S)
    assert bare.returncode == 0, errors.decode()
    assert recorded.exit_code == 0, recorded.stderr
    assert recorded.stdout == output
    return recorded


def check_ranks(recorded: Any, ranks: int, steps: int) -> None:
    """These ranks and no other were recorded, once each, with all their steps and the planned capture."""
    assert recorded.run.ranks == tuple(range(ranks)), recorded.stderr
    assert recorded.stderr.count("recording rank") == ranks
    assert "not recorded" not in recorded.stderr
    for rank in range(ranks):
        assert [step.step for step in recorded.steps(rank)] == list(range(steps))
        assert [step.step for step in recorded.steps(rank) if step.captured] == [4, 5, 6]
        names = [name for name in recorded.names(rank) if name.startswith("ProfilerStep#")]
        assert sorted(names) == ["ProfilerStep#4", "ProfilerStep#5", "ProfilerStep#6"]
        assert recorded.rank(rank).notes == ()
        assert recorded.rank(rank).world_size == ranks


def _with_port(command: tuple[str, ...], port: str) -> list[str]:
    return [port if part == "PORT" else part for part in command]
