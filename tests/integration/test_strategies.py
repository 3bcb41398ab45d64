"""Every strategy of the workload, recorded through the real CLI: the report names its collectives and their bytes.

The expected volumes are those of each strategy as shipped, per step and rank, in elements; see docs/definitions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytest.importorskip("torch")

from shardprof.study.model import MODELS, build_model, parameter_counts

pytestmark = pytest.mark.integration

MODEL = "vit_small"
ELEMENT_BYTES = 4
CAPTURED_STEPS = [2, 3]
TOLERANCE = 0.01


@dataclass(frozen=True)
class Volume:
    """Elements that one rank's collectives carry in a step, by kind, from Psi and Psi_root."""

    ranks: int
    elements: Callable[[int, int], dict[str, float]]
    framework: str
    launcher: str = "torchrun"


def full(psi: int, root: int) -> dict[str, float]:
    return {"all_gather": 2 * psi - root, "reduce_scatter": psi}


def kept_gathered(psi: int, root: int) -> dict[str, float]:
    return {"all_gather": psi, "reduce_scatter": psi}


def hybrid(psi: int, root: int) -> dict[str, float]:
    return {"all_gather": 2 * psi - root, "reduce_scatter": psi, "all_reduce": psi / 2}


def reduced(psi: int, root: int) -> dict[str, float]:
    return {"all_reduce": psi}


def reduced_then_gathered(psi: int, root: int) -> dict[str, float]:
    return {"all_reduce": psi, "all_gather": psi}


VOLUMES = {
    "ddp": Volume(2, reduced, "DDP"),
    "fsdp1-full": Volume(2, full, "FSDP1"),
    "fsdp1-grad-op": Volume(2, kept_gathered, "FSDP1"),
    "fsdp1-hybrid": Volume(4, hybrid, "FSDP1"),
    "fsdp2-full": Volume(2, full, "FSDP2"),
    "fsdp2-grad-op": Volume(2, kept_gathered, "FSDP2"),
    "fsdp2-hybrid": Volume(4, hybrid, "FSDP2"),
    "zero0": Volume(2, reduced, "DeepSpeed"),
    "zero1": Volume(2, reduced_then_gathered, "DeepSpeed", launcher="deepspeed"),
    "zero2": Volume(2, reduced_then_gathered, "DeepSpeed"),
    "zero3": Volume(2, kept_gathered, "DeepSpeed", launcher="deepspeed"),
}


def job(strategy: str, port: str) -> list[str]:
    volume = VOLUMES[strategy]
    launchers = {
        "torchrun": ["torchrun", "--master-port", port, "--nproc-per-node", str(volume.ranks), "-m"],
        "deepspeed": ["deepspeed", "--master_port", port, "--num_accelerators", str(volume.ranks), "--module"],
    }
    training = ["--data", "digits", "--strategy", strategy, "--steps", "5", "--batch-size", "8", "--threads", "1"]
    return [*launchers[volume.launcher], "shardprof.study.workloads.vit", *training, "--model", MODEL]


@pytest.fixture(scope="module")
def psi() -> tuple[int, int]:
    counts = parameter_counts(build_model(MODELS[MODEL]))
    return counts.total, counts.root


@pytest.mark.parametrize("strategy", VOLUMES)
def test_bytes_by_kind_are_those_of_the_strategy(
    strategy: str, psi: tuple[int, int], tmp_path: Path, record_job: Any, report_of: Any, free_port: Any
) -> None:
    volume = VOLUMES[strategy]
    recorded = record_job(tmp_path, *job(strategy, free_port()), options=("--steps", "2:4"))
    assert recorded.exit_code == 0, recorded.stderr
    result = report_of(recorded.folder.root)

    assert [rank["rank"] for rank in result["ranks"]] == list(range(volume.ranks))
    assert result["source"]["framework"] == volume.framework
    expected = {kind: elements * ELEMENT_BYTES for kind, elements in volume.elements(*psi).items()}
    for rank in result["ranks"]:
        assert [step["step"] for step in rank["steps"]] == CAPTURED_STEPS
        for step in rank["steps"]:
            assert sum(step["partition_ns"].values()) == step["wall_ns"]
            told = {kind: step["comm_bytes"].get(kind) or 0 for kind in {*expected, *step["comm_bytes"]}}
            for kind, size_bytes in told.items():
                # Beside the strategy's own there are flags and norms of a few bytes.
                assert size_bytes == pytest.approx(expected.get(kind, 0), rel=TOLERANCE, abs=64), kind
    if volume.framework.startswith("FSDP2"):
        assert_waits_for_every_transfer(result)
    if strategy == "fsdp2-hybrid":
        assert_groups_of_the_mesh(result)


def assert_waits_for_every_transfer(result: dict[str, Any]) -> None:
    # On gloo FSDP2 waits on the calling thread: what looks like overlap would be a wrapper taken for work.
    steps = [step for rank in result["ranks"] for step in rank["steps"]]
    assert median(step["overlap_ns"] / step["comm_ns"] for step in steps) < 0.02


def assert_groups_of_the_mesh(result: dict[str, Any]) -> None:
    groups = {(row["kind"], row["group"], tuple(row["ranks"])) for row in result["collectives"]}
    assert ("all_gather", "mesh_shard", (0, 1)) in groups
    assert ("reduce_scatter", "mesh_shard", (2, 3)) in groups
    assert {ranks for kind, _, ranks in groups if kind == "all_reduce"} >= {(0, 2), (1, 3)}
