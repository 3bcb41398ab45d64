"""What a study expects of memory before it runs, against what real trainings held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepspeed")

from shardprof.study.bench.cells import AS_SHIPPED, Cell
from shardprof.study.bench.fit import fit
from shardprof.study.model_facts import facts
from shardprof.study.shapes import MODELS

pytestmark = pytest.mark.integration

JOBS = [
    ("ddp", 1, "fp32"),
    ("ddp", 2, "bf16"),
    ("fsdp1-hybrid", 4, "fp32"),
    ("fsdp2-full", 2, "bf16"),
    ("zero2", 2, "bf16"),
    ("zero3", 1, "fp32"),
    ("zero3", 2, "bf16"),
    ("zero3", 4, "fp32"),
]


@pytest.mark.parametrize(("strategy", "ranks", "precision"), JOBS)
def test_what_is_held_is_what_is_expected(
    strategy: str, ranks: int, precision: str, tmp_path: Path, record_job: Any
) -> None:
    recorded = record_job(
        tmp_path, "torchrun", "--standalone", "--nproc-per-node", str(ranks), "-m", "shardprof.study.workloads.vit",
        "--data", "digits", "--steps", "3", "--batch-size", "4", "--threads", "1", "--strategy", strategy,
        "--precision", precision, options=("--steps", "2:3"),
    )  # fmt: skip
    assert recorded.exit_code == 0, recorded.stderr
    cell = Cell(
        strategy=strategy, knobs=AS_SHIPPED, precision=precision, checkpointing=False, batch_size=4, accumulation=1,
        model="vit_small", ranks=ranks, nodes=1,
    )  # fmt: skip
    sizes = facts(MODELS["vit_small"], precision=precision, checkpointing=False)
    expected = fit(cell, None, sizes, None, "cuda").parts
    held = recorded.rank().settings["state_bytes"]
    assert {"parameters", "optimizer"} <= held.keys()
    for part, held_bytes in held.items():
        assert expected[part] == pytest.approx(held_bytes, rel=0.01), part
