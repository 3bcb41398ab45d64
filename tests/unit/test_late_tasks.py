"""A rank that computes for longer is slower at the same tasks, or has more of them: shapes tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprof.analysis.late_tasks import with_tasks
from shardprof.analysis.result import Straggler
from shardprof.trace.across.tasks import Task, Tasks, add_tasks
from tests.conftest import Trace, distributed_info

RANKS, STEPS, STEP_US = 4, 6, 10_000
US = 1_000
Report = Callable[..., dict[str, Any]]


def job(folder: Path, *, times: float = 1.0, blocks: int = 64, kernels: int = 4, shapes: bool = True) -> Path:
    """Steps of `kernels` kernels of 500 us and an all-reduce; those of rank 2 take so many `times` longer, have so many
    `blocks`, and are so many. All ranks leave the all-reduce together."""
    usual_us = 4 * 500
    slow_us = round(kernels * 500 * times)
    for rank in range(RANKS):
        trace = Trace(header=distributed_info(rank, list(range(RANKS))))
        correlation = 0
        is_slow = rank == 2
        for step in range(STEPS):
            begin = step * STEP_US * US
            trace.step(step, begin, begin + STEP_US * US)
            at, each = begin + 100 * US, round(500 * US * (times if is_slow else 1))
            for i in range(kernels if is_slow else 4):
                correlation += 1
                trace.launch(correlation, begin + (10 + i) * US)
                grid = {"grid": [blocks if is_slow else 64, 1, 1]} if shapes else {}
                trace.kernel("gemm_128x64", at, at + each, correlation=correlation, **grid)
                at += each
            correlation += 1
            trace.launch(correlation, begin + 50 * US)
            end = begin + (100 + max(usual_us, slow_us) + 300) * US
            metadata = {
                "Collective_name": "allreduce", "In_msg_nelems": 1000, "Out_msg_nelems": 1000, "dtype": "Float",
                "Group_size": RANKS, "Process_Group_Name": "0",
            }  # fmt: skip
            name = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"
            trace.kernel(name, at, end, stream=20, correlation=correlation, **metadata)
            trace.event("cudaDeviceSynchronize", begin + 60 * US, end, cat="cuda_runtime", correlation=10_000 + step)
        trace.write(folder / f"rank{rank}.json")
    return folder


def straggler(report: Report, folder: Path) -> tuple[str, str]:
    """The cause of the one straggler, and what its tasks tell."""
    (found,) = report(folder)["stragglers"]
    assert found["rank"] == 2
    return found["cause"], found["evidence"][-1]["message"]


def test_the_same_tasks_take_a_slower_rank_longer(report: Report, tmp_path: Path) -> None:
    cause, told = straggler(report, job(tmp_path, times=1.5))
    assert cause == "compute"
    assert "the same tasks of the same shapes take 1.50 times as long as elsewhere, 1 ms a step more" in told
    assert "gemm_128x64" in told


def test_longer_sequences_are_more_work(report: Report, tmp_path: Path) -> None:
    cause, told = straggler(report, job(tmp_path, times=1.5, blocks=96))
    assert cause == "imbalance"
    assert "1 ms a step more goes to tasks of shapes, or in numbers, that the others do not have" in told


def test_more_kernels_are_more_work(report: Report, tmp_path: Path) -> None:
    cause, _ = straggler(report, job(tmp_path, kernels=6))
    assert cause == "imbalance"


def test_without_shapes_the_same_kernels_are_the_same_work(report: Report, tmp_path: Path) -> None:
    cause, told = straggler(report, job(tmp_path, times=1.5, shapes=False))
    assert cause == "compute"
    assert "(their shapes are not told)" in told


def tasks(steps: int = 1, **time_ns: int) -> Tasks:
    """One call of each a step."""
    return Tasks(
        steps=steps,
        calls={(name, 1): steps for name in time_ns},
        time_ns={(name, 1): value * steps for name, value in time_ns.items()},
    )


LATE = Straggler(rank=0, cause="compute", cost_ns_per_step=1, steps=1, of_steps=1, evidence=())


@pytest.mark.parametrize("cause", ["launch", "data_loading", "link", "unknown"])
def test_only_computing_is_told_by_tasks(cause: str) -> None:
    late = replace(LATE, cause=cause)
    assert with_tasks(late, {0: tasks(a=2_000_000), 1: tasks(a=1_000_000)}) == late


def test_ranks_whose_shapes_always_differ_are_compared_by_their_sums() -> None:
    """Sentences of any length on every rank: the late one's are longer."""
    own = tasks(a1=3_000_000, common=1_000_000)
    others = {rank: tasks(common=1_000_000, **{f"a{rank + 1}": 1_000_000 + rank}) for rank in (1, 2, 3)}
    told = with_tasks(LATE, {0: own, **others})
    assert told.cause == "imbalance"
    assert told.evidence[0].message.startswith("2 ms a step more")


def test_without_a_difference_nothing_is_told() -> None:
    assert with_tasks(LATE, {0: tasks(a=1_000_000), 1: tasks(steps=3, a=1_000_000)}) == LATE
    assert with_tasks(LATE, {0: tasks(a=1_000_000)}) == LATE


def test_windows_of_a_rank_add_up() -> None:
    key: Task = ("a", 1)
    added = add_tasks([tasks(steps=2, a=5), tasks(a=7)])
    assert (added.steps, added.calls[key], added.time_ns[key]) == (3, 3, 17)
