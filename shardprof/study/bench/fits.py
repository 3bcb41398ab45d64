"""What every cell of a plan takes of memory: its model is looked at in a process of its own, which needs torch."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from shardprof.errors import ShardprofError
from shardprof.study.bench.cells import Cell, knobs_of
from shardprof.study.bench.fit import Fit, fit
from shardprof.study.bench.machine import memory_a_rank
from shardprof.study.bench.plan import Plan
from shardprof.study.model_sizes import ModelFacts

_LONGEST_S = 300


def fits(plan: Plan, memory_bytes: int | None) -> dict[Cell, Fit]:
    """By cell, with so much memory a rank, or on machines like this one."""
    kinds = {(cell.model, cell.precision, cell.checkpointing) for cell in plan.cells}
    facts = {kind: _facts(*kind) for kind in sorted(kinds)}
    return {
        cell: fit(
            cell,
            knobs_of(cell, plan.located.file.knobs),
            facts[cell.model, cell.precision, cell.checkpointing],
            memory_bytes or memory_a_rank(plan.device, cell.ranks // cell.nodes),
            plan.device,
        )
        for cell in plan.cells
    }


def _facts(model: str, precision: str, checkpointing: bool) -> ModelFacts:  # noqa: FBT001
    command = [sys.executable, "-m", "shardprof.study.model_facts", model, "--precision", precision]
    command += ["--checkpointing"] if checkpointing else []
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LONGEST_S, check=True)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ShardprofError(f"{model} cannot be looked at: {last[0]}", "see `shardprof doctor`") from error
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=ModelFacts)
