"""Two strategies recorded and compared: their bytes differ as the strategies say, to the byte, and the time adds up."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import pytest

from shardprof.study.model import blocks, build_model
from shardprof.study.shapes import MODELS

RANKS = 2
FLOAT_BYTES = 4
TINY = {"layers": 2, "heads": 2, "width": 16, "mlp": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, record_job: Callable[..., Any]) -> list[str]:
    """FSDP2 and ZeRO-2, recorded on the same model and data."""
    cwd = tmp_path_factory.mktemp("compare")
    train = ["torchrun", "--standalone", "--nproc-per-node", str(RANKS), "-m", "shardprof.study.workloads.vit"]
    model = [part for name, size in TINY.items() for part in (f"--{name}", str(size))]
    same = ["--data", "digits", "--steps", "6", "--batch-size", "4", "--threads", "1", *model]
    strategies = ("fsdp2-full", "zero2")
    for strategy in strategies:
        recorded = record_job(cwd, *train, *same, "--strategy", strategy, out=strategy, options=("--steps", "3:5"))
        assert recorded.exit_code == 0, recorded.stderr
    return [str(cwd / strategy) for strategy in strategies]


def shardprof(*arguments: str, exit_code: int = 0) -> str:
    """What the command writes."""
    command = [sys.executable, "-m", "shardprof", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exit_code, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compared(folders: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(shardprof("compare", *folders, "--format", "json"))
    return told


def in_rows(shapes: Iterable[tuple[int, ...]]) -> int:
    """Bytes of tensors as FSDP2 sends them: the first dimension padded to a multiple of the ranks."""
    return FLOAT_BYTES * sum(RANKS * -(-rows // RANKS) * prod(rest) for rows, *rest in shapes)


@pytest.mark.integration
def test_the_bytes_differ_as_the_strategies_say(compared: dict[str, Any]) -> None:
    model = build_model(dataclasses.replace(MODELS["vit_small"], **TINY), seed=0, checkpointing=False)
    in_blocks = {id(parameter) for block in blocks(model) for parameter in block.parameters()}
    root = [tuple(parameter.shape) for parameter in model.parameters() if id(parameter) not in in_blocks]
    all_of_them = [tuple(parameter.shape) for parameter in model.parameters()]
    elements = sum(map(prod, all_of_them))
    aligned = 2 * RANKS * -(-elements // (2 * RANKS))  # what DeepSpeed pads its flat buffer to

    rows = {row["kind"]: row for row in compared["kinds"]}
    payload = {kind: [row[side]["payload_bytes"]["per_step"] for side in "ab"] for kind, row in rows.items()}
    assert payload == {
        "all_gather": [2 * in_rows(all_of_them) - in_rows(root), FLOAT_BYTES * aligned],
        "reduce_scatter": [in_rows(all_of_them), 0],
        "all_reduce": [0, FLOAT_BYTES * elements + FLOAT_BYTES],  # the gradients and their norm
    }
    calls = {kind: [row[side]["calls"]["per_step"] for side in "ab"] for kind, row in rows.items()}
    units = TINY["layers"] + 1
    assert calls == {"all_gather": [2 * units - 1, 1], "reduce_scatter": [units, 0], "all_reduce": [0, 2]}


@pytest.mark.integration
def test_the_calls_of_each_size_sum_to_the_bytes(compared: dict[str, Any]) -> None:
    for row in compared["kinds"]:
        for side in "ab":
            sizes = [call for call in compared["calls"] if call["kind"] == row["kind"]]
            total = sum(call[f"{side}_calls"]["total"] * call["call_bytes"] for call in sizes)
            assert total == row[side]["payload_bytes"]["total"]


@pytest.mark.integration
def test_the_waterfall_sums_to_the_difference(compared: dict[str, Any]) -> None:
    change_ns = compared["b"]["mean_ns"] - compared["a"]["mean_ns"]
    assert sum(part["change_ns"] for part in compared["waterfall"]) == change_ns
    assert {part["name"] for part in compared["waterfall"]} >= {"compute", "all_gather", "reduce_scatter", "all_reduce"}
    assert (compared["a"]["rank_steps"], compared["b"]["rank_steps"]) == (2 * RANKS, 2 * RANKS)


@pytest.mark.integration
def test_people_and_ci_are_told(folders: list[str], compared: dict[str, Any]) -> None:
    fair = [caveat for caveat in compared["caveats"] if caveat["severity"] == "not comparable"]
    assert fair == []
    shown = shardprof("compare", *folders, "--format", "markdown")
    assert "with all-reduce instead of reduce-scatter" in shown
    assert "FSDP2 full shard, fp32" in shown
    assert "DeepSpeed ZeRO-2, fp32" in shown
    fsdp2, zero2 = folders
    assert shardprof("check", zero2, "--max", f"comm_bytes=+0%@{fsdp2}").startswith("kept")
    assert shardprof("check", fsdp2, "--max", f"comm_bytes=+0%@{zero2}", exit_code=1).startswith("exceeded")
