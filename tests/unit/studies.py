"""Trials made by hand: a study whose figures are known, for what concludes from them and prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shardprof.analysis.result import KindSummary, ModelState, Result, Volume, Volumes
from shardprof.study.bench.cells import Cell
from shardprof.study.results import FINISHED, Accuracy, Figure, Loss, Measurement, StepTime, Trial
from tests.unit.builders import MS, rank, result, step

LENGTH = {"name": "hand-made", "steps": 40, "warm_up": 5, "lr": 1e-3, "seed": 0, "clip_norm": None}
GIB = 2**30


def cell(strategy: str = "ddp", **fields: Any) -> Cell:
    """A cell; `fields` override plain defaults: 8 samples a rank on 2 ranks of one node."""
    plain: dict[str, Any] = {
        "strategy": strategy, "knobs": "as shipped", "precision": "fp32", "checkpointing": False, "batch_size": 8,
        "accumulation": 1, "model": "vit_small", "ranks": 2, "nodes": 1,
    }  # fmt: skip
    return Cell(**(plain | fields))


def figure(name: str, value: float | None, unit: str, part: str = "", missing: str = "") -> Figure:
    """A figure of a metric."""
    return Figure(name=name, part=part, value=value, unit=unit, missing=missing)


def steps(*times_ms: float) -> tuple[StepTime, ...]:
    """Steps that count, after one that does not."""
    made = [StepTime(step=number, wall_ns=round(ms * MS), counts=True) for number, ms in enumerate(times_ms, 1)]
    return (StepTime(step=0, wall_ns=10**12, counts=False), *made)


def losses(*values: float, samples: int = 16, step_ms: float = 100) -> tuple[Loss, ...]:
    """A loss a step."""
    return tuple(
        Loss(step=number, samples=number * samples, at_ns=round(number * step_ms * MS), loss=value)
        for number, value in enumerate(values, 1)
    )


def accuracies(*values: float, samples: int = 160, step_ms: float = 1000) -> tuple[Accuracy, ...]:
    """An evaluation after every tenth step."""
    return tuple(
        Accuracy(step=10 * number, samples=number * samples, at_ns=round(number * step_ms * MS), accuracy=value)
        for number, value in enumerate(values, 1)
    )


def trial(of: Cell, step_ms: float | None = None, *figures: Figure, repeat: int = 0, **fields: Any) -> Trial:
    """A trial of a cell, whose median step took `step_ms`; `measured` are fields of its Measurement."""
    measured: dict[str, Any] = dict(fields.pop("measured", {}))
    timed = [] if step_ms is None else [figure("step_time", step_ms, "ms", "p50")]
    measured.setdefault("figures", (*timed, *figures))
    identity = f"{of.strategy}-{of.knobs}-{of.ranks}-{of.nodes}-{of.batch_size}-{of.precision}"
    plain: dict[str, Any] = {
        "trial_id": f"{identity}-{repeat}", "study": "hand-made", "cell_id": identity, "knobs": {}, "length": LENGTH,
        "position": repeat, "status": FINISHED, "started_ns": repeat * 10**9, "seconds": 60.0,
        "environment": {"torch": "2.13.0", "commit": "0123456789ab"},
    }  # fmt: skip
    return Trial(cell=of, repeat=repeat, measurement=Measurement(**measured), **(plain | fields))


def repeated(of: Cell, steps_ms: Sequence[float], *figures: Figure, **fields: Any) -> list[Trial]:
    """A trial for each of these median steps."""
    return [trial(of, step_ms, *figures, repeat=number, **fields) for number, step_ms in enumerate(steps_ms)]


def report(
    device: str = "cpu", overlapped: float = 0.0, settings: Mapping[str, Any] | None = None, **parts_ms: float
) -> Result:
    """A report of one step of one rank that consists of these parts; a share of each communication is overlapped."""
    made = result(
        rank(0, step(7, empty=False, **parts_ms), device=device),
        source={"settings": dict(settings or {}), "kind": "run"},
    )
    assert made.summary is not None
    assert made.summary.steps is not None
    kinds = tuple(_overlapped(kind, overlapped) for kind in made.summary.steps.kinds)
    whole = replace(
        made.summary.steps, kinds=kinds, comm_ns=sum(kind.comm_ns for kind in kinds),
        overlap_ns=sum(kind.overlapped_ns for kind in kinds),
    )  # fmt: skip
    return replace(made, summary=replace(made.summary, steps=whole))


def _overlapped(kind: KindSummary, share: float) -> KindSummary:
    """The kind, of which so much runs under compute beside what is exposed."""
    hidden_ns = round(kind.exposed_ns * share / (1 - share))
    return replace(kind, comm_ns=kind.exposed_ns + hidden_ns, overlapped_ns=hidden_ns)


def volumes(states: Mapping[str, int] | None = None, **bytes_by_kind: tuple[int, int]) -> Volumes:
    """What is needed and what is sent by kind, and model states by part."""
    rows = [_volume(kind, needed, sent) for kind, (needed, sent) in bytes_by_kind.items()]
    total = _volume("total", sum(row.theory_bytes or 0 for row in rows), sum(row.measured_bytes or 0 for row in rows))
    held = [ModelState(part=part, expected_bytes=size, measured_bytes=size) for part, size in (states or {}).items()]
    return Volumes(micro_batches=1, reductions=1, kinds=tuple(rows), total=total, reasons=(), model_states=tuple(held))


def _volume(kind: str, needed: int, sent: int) -> Volume:
    ratio = sent / needed if needed else None
    return Volume(
        kind=kind, theory_bytes=needed, expected_bytes=sent, measured_bytes=sent, measured_per_theory=ratio,
        measured_per_expected=1.0 if sent else None,
    )  # fmt: skip
