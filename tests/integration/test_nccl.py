"""NCCL's plugin in recorded jobs: a job of gloo is as it was, and what the plugin is told in ranks is in the report.

No NCCL is at hand: the ranks play it to the plugin, which gets the folder that the agent would give it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from tests.unit.nccl_player import EVENTS

pytestmark = pytest.mark.integration

UNIT = Path(__file__).parents[1] / "unit"
TRAINING = f"""
import os, pathlib, signal, sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
run = pathlib.Path(sys.argv[1])
(host,) = [folder.name for folder in (run / "hosts").iterdir()]
folder = run / "nccl" / host
folder.mkdir(parents=True, exist_ok=True)
os.environ.update(SHARDPROF_NCCL_FOLDER=str(folder), SHARDPROF_NCCL_EVENTS="{EVENTS}")
sys.path.insert(0, {str(UNIT)!r})
from nccl_player import Player
player = Player(0xABC, rank=rank, ranks=2)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    for i in range(500):
        player.all_gather(step * 500 + i, 1000)
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    time.sleep(0.05)
if len(sys.argv) > 2:
    player.all_gather(6000, 1000, ends=False)
    dist.barrier()
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.3)
"""


def trained(record_job: Callable[..., Any], folder: Path, *options: str) -> Any:
    (folder / "train.py").write_text(TRAINING)
    command = ("torchrun", "--standalone", "--nproc-per-node", "2", "train.py", str(folder / "run"), *options)
    return record_job(folder, *command)


def test_all_that_the_plugin_was_told_is_in_the_report(
    tmp_path: Path, record_job: Callable[..., Any], report_of: Callable[[Path], dict[str, Any]]
) -> None:
    job = trained(record_job, tmp_path)
    assert job.exit_code == 0, job.stderr
    (host,) = (job.folder.root / "nccl").iterdir()
    pids = {str(job.rank(rank).pid) for rank in (0, 1)}
    assert {file.name for file in host.iterdir()} == {
        f"nccl.{pid}.{what}.gz" for pid in pids for what in ("records", "state")
    }
    told = report_of(job.folder.root)["nccl"]
    (row,) = told["calls"]
    assert told["source"] == "plugin"
    assert (row["function"], row["calls"], row["group_size"]) == ("AllGather", 6000, 2)
    assert row["median_ns"] == 1000
    assert told["lost"] == {}
    assert told["unfinished"] == []


def test_what_a_killed_job_was_in_is_told(
    tmp_path: Path, record_job: Callable[..., Any], report_of: Callable[[Path], dict[str, Any]]
) -> None:
    job = trained(record_job, tmp_path, "dies")
    assert job.exit_code != 0
    assert job.exit_code != -signal.SIGKILL  # torchrun's own
    told = report_of(job.folder.root)["nccl"]
    (call,) = told["unfinished"]
    assert (call["function"], call["sequence"], call["ranks"]) == ("AllGather", 6000, [0, 1])
    assert sum(row["calls"] for row in told["calls"]) == 6001


@pytest.mark.skipif(dist.is_nccl_available(), reason="this torch has NCCL")
def test_a_job_without_nccl_has_nothing_of_it(tmp_path: Path, record_job: Callable[..., Any]) -> None:
    (tmp_path / "train.py").write_text(
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "print(sorted(name for name in os.environ if name.startswith(('NCCL_', 'SHARDPROF_NCCL'))))\n"
        "optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])\n"
        "for _ in range(3): optimizer.step()\n"
    )
    job = record_job(tmp_path, "torchrun", "--standalone", "--nproc-per-node", "1", "train.py")
    assert job.exit_code == 0
    assert job.stdout.decode().strip() == "[]"
    assert job.rank().nccl_setup is None
    assert not (job.folder.root / "nccl").exists()
