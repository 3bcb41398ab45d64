"""A rank of a real job that is slowed down is named, with what slows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .jobs import RecordJob

pytest.importorskip("torch")
pytestmark = pytest.mark.integration

SLOW_RANK = 2
SLOWER_MS = 80

TRAIN = f"""
import gc, sys, time, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
dist.init_process_group("gloo"); torch.set_num_threads(1); torch.manual_seed(0)
how = sys.argv[1] if dist.get_rank() == {SLOW_RANK} else "as the others"
class Data(Dataset):
    def __len__(self): return 4 * 12
    def __getitem__(self, i):
        time.sleep({SLOWER_MS / 4e3} if how == "data" else 0)
        return torch.randn(64)
def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end: pass
def collect():
    begin = time.perf_counter()
    while time.perf_counter() < begin + {SLOWER_MS / 1e3}:
        gc.collect()
model = DistributedDataParallel(torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)]))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for batch in DataLoader(Data(), batch_size=4):
    busy({SLOWER_MS / 1e3} if how == "loop" else 0)
    if how == "garbage": collect()
    if how == "longer": batch = batch.repeat(5000, 1)
    model(batch).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
dist.barrier(); time.sleep(0.3)
dist.destroy_process_group()
"""


@pytest.mark.parametrize(("how", "cause"), [("loop", "launch"), ("garbage", "launch"), ("data", "data_loading")])
def test_the_slow_rank_is_named_with_its_cause(
    how: str, cause: str, record_job: RecordJob, report_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    command = ("torchrun", "--standalone", "--nproc-per-node", "4", "train.py", how)
    recorded = record_job(tmp_path, *command, options=("--steps", "4:10"))
    assert recorded.exit_code == 0, recorded.stderr
    report = report_of(recorded.folder.root)
    first, *others = report["stragglers"]
    assert (first["rank"], first["cause"]) == (SLOW_RANK, cause)
    cost_ms = first["cost_ns_per_step"] / 1e6
    assert cost_ms > 0.5 * SLOWER_MS
    assert cost_ms < 1.5 * SLOWER_MS or how == "garbage", "a last collection may take long"
    assert all(other["cost_ns_per_step"] < first["cost_ns_per_step"] / 2 for other in others)
    steps = {rank["rank"]: rank["steps"] for rank in report["ranks"]}
    assert all(step["wait_ns"] > 0.5e6 * SLOWER_MS for step in steps[0])
    told = " ".join(evidence["message"] for evidence in first["evidence"])
    assert ("garbage collector holds it up" in told) == (how == "garbage")


def test_a_rank_with_more_to_do_is_not_called_slow(
    record_job: RecordJob, report_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """The same operators, on longer batches."""
    (tmp_path / "train.py").write_text(TRAIN)
    command = ("torchrun", "--standalone", "--nproc-per-node", "4", "train.py", "longer")
    recorded = record_job(tmp_path, *command, options=("--steps", "4:10"))
    assert recorded.exit_code == 0, recorded.stderr
    first = report_of(recorded.folder.root)["stragglers"][0]
    assert (first["rank"], first["cause"]) == (SLOW_RANK, "imbalance")
    assert "that the others do not have" in first["evidence"][-1]["message"]
