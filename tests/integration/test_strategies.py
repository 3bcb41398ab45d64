"""Every strategy of the workload, recorded through the real CLI: its collectives are those that are expected of it.

What is expected is computed from what the framework told of itself; here it meets the bytes of real collectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytest.importorskip("torch")

from shardprof.study.model import build_model, parameter_counts
from shardprof.study.shapes import MODELS

pytestmark = pytest.mark.integration

RUN_FORMAT = (Path(__file__).parents[2] / "docs" / "run-format.md").read_text()
MODEL = "vit_small"
CAPTURED_STEPS = [2, 3]
TOLERANCE = 0.01
FLAGS_BYTES = 64
"""Beside the strategy's own collectives there are flags and norms of a few bytes."""


@dataclass(frozen=True)
class Job:
    """How a strategy is run, and its volume as papers give it: in the model's size times (N-1)/N of N shards."""

    framework: str
    paper: float
    ranks: int = 2
    launcher: str = "torchrun"
    options: tuple[str, ...] = ()
    micro_batches: int = 1
    reductions: int | None = None
    """None: after every micro-batch."""


ACCUMULATED = {"options": ("--accumulation", "2"), "micro_batches": 2}
LOWERED = {"options": ("--accumulation", "2", "--precision", "bf16"), "micro_batches": 2}
JOBS = {
    "ddp": Job("DDP", 2),
    "fsdp1-full": Job("FSDP1", 3),
    "fsdp1-grad-op": Job("FSDP1", 2),
    "fsdp1-hybrid": Job("FSDP1", 4, ranks=4),
    "fsdp2-full": Job("FSDP2", 3),
    "fsdp2-full accumulated": Job("FSDP2", 6, **ACCUMULATED),
    "fsdp2-grad-op": Job("FSDP2", 2),
    "fsdp2-hybrid": Job("FSDP2", 4, ranks=4),
    "zero0": Job("DeepSpeed", 2),
    "zero0 accumulated in bf16": Job("DeepSpeed", 1, **LOWERED, reductions=1),
    "zero1": Job("DeepSpeed", 2, launcher="deepspeed"),
    "zero2": Job("DeepSpeed", 2),
    "zero2 accumulated in bf16": Job("DeepSpeed", 3 / 2, **LOWERED),
    "zero3": Job("DeepSpeed", 3, launcher="deepspeed"),
}


def command(name: str, port: str) -> list[str]:
    job = JOBS[name]
    launchers = {
        "torchrun": ["torchrun", "--master-port", port, "--nproc-per-node", str(job.ranks), "-m"],
        "deepspeed": ["deepspeed", "--master_port", port, "--num_accelerators", str(job.ranks), "--module"],
    }
    strategy = name.split()[0]
    training = ["--data", "digits", "--strategy", strategy, "--steps", "5", "--batch-size", "8", "--threads", "1"]
    return [*launchers[job.launcher], "shardprof.study.workloads.vit", *training, "--model", MODEL, *job.options]


@pytest.fixture(scope="module")
def psi() -> int:
    return parameter_counts(build_model(MODELS[MODEL])).total


@pytest.mark.parametrize("name", JOBS)
def test_what_is_moved_and_held_is_what_is_expected(
    name: str, psi: int, tmp_path: Path, record_job: Any, report_of: Any, free_port: Any
) -> None:
    job = JOBS[name]
    recorded = record_job(tmp_path, *command(name, free_port()), options=("--steps", "2:4"))
    assert recorded.exit_code == 0, recorded.stderr
    result = report_of(recorded.folder.root)

    assert [rank["rank"] for rank in result["ranks"]] == list(range(job.ranks))
    assert result["source"]["framework"] == job.framework
    assert [key for key in result["source"]["settings"] if f"`{key}`" not in RUN_FORMAT] == []
    for rank in result["ranks"]:
        assert [step["step"] for step in rank["steps"]] == CAPTURED_STEPS
        for step in rank["steps"]:
            assert sum(step["partition_ns"].values()) == step["wall_ns"]
            assert step["comm_bytes"] == pytest.approx(rank["steps"][0]["comm_bytes"], abs=FLAGS_BYTES)
    assert_moves_what_is_expected(result["volumes"], job, psi)
    assert_holds_what_is_expected(result["volumes"])
    if job.framework == "FSDP2":
        assert_waits_for_every_transfer(result)
    if name == "fsdp2-hybrid":
        assert_groups_of_the_mesh(result)


def assert_moves_what_is_expected(volumes: dict[str, Any], job: Job, psi: int) -> None:
    reductions = job.reductions or job.micro_batches
    assert (volumes["micro_batches"], volumes["reductions"]) == (job.micro_batches, reductions)
    assert volumes["total"]["theory_bytes"] == pytest.approx(job.paper * 4 * psi / 2, rel=1e-6)
    for row in volumes["kinds"]:
        assert row["measured_bytes"] == pytest.approx(row["expected_bytes"], rel=TOLERANCE, abs=FLAGS_BYTES), row


def assert_holds_what_is_expected(volumes: dict[str, Any]) -> None:
    states = {state["part"]: state for state in volumes["model_states"]}
    assert {"parameters", "gradients", "optimizer"} <= states.keys()
    assert states["parameters"]["measured_bytes"]
    assert states["optimizer"]["measured_bytes"]
    for state in states.values():
        if state["measured_bytes"] is not None:
            assert state["measured_bytes"] == pytest.approx(state["expected_bytes"], rel=TOLERANCE), state


def assert_waits_for_every_transfer(result: dict[str, Any]) -> None:
    # On gloo FSDP2 waits on the calling thread: what looks like overlap would be a wrapper taken for work.
    steps = [step for rank in result["ranks"] for step in rank["steps"]]
    assert median(step["overlap_ns"] / step["comm_ns"] for step in steps) < 0.02


def assert_groups_of_the_mesh(result: dict[str, Any]) -> None:
    groups = {(row["kind"], row["group"], tuple(row["ranks"])) for row in result["collectives"]}
    assert ("all_gather", "mesh_shard", (0, 1)) in groups
    assert ("reduce_scatter", "mesh_shard", (2, 3)) in groups
    assert {ranks for kind, _, ranks in groups if kind == "all_reduce"} >= {(0, 2), (1, 3)}
