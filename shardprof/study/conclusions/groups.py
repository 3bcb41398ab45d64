"""The trials of a study by cell and situation: what is compared with what."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from shardprof.study.bench.cells import Cell
from shardprof.study.conclusions.naming import differences, label
from shardprof.study.conclusions.phrases import bandwidth
from shardprof.study.conclusions.reading import Value
from shardprof.study.conclusions.study_report import Situation
from shardprof.study.results import FINISHED, Trial

DEEPSPEED, FSDP, DDP = "DeepSpeed", "FSDP", "DDP"
Block = tuple[str, int]
"""A repeat of a study: its trials ran side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTrials:
    """All trials of a cell at one fabric; of a repeat that was tried again, `finished` has the one that did."""

    cell_id: str
    cell: Cell
    name: str
    situation: Situation
    trials: tuple[Trial, ...]
    finished: Mapping[Block, Trial]

    def values(self, value: Value) -> dict[Block, float]:
        """What each finished trial has of a figure; those that lack it are left out."""
        found = {block: value(trial) for block, trial in self.finished.items()}
        return {block: number for block, number in found.items() if number is not None}

    @property
    def diverged_at(self) -> int | None:
        """The first step of a finished trial whose loss was no number; None where all were numbers."""
        losses = (loss for trial in self.finished.values() for loss in trial.measurement.losses)
        return min((loss.step for loss in losses if not math.isfinite(loss.loss)), default=None)


def cells_of(trials: Sequence[Trial]) -> tuple[CellTrials, ...]:
    """The cells, by situation and in the order in which they are named."""
    grouped: dict[tuple[str, Situation], list[Trial]] = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: trial.started_ns):
        grouped[trial.cell_id, situation_of(trial)].append(trial)
    alike: dict[tuple[Situation, str], dict[str, Trial]] = defaultdict(dict)
    for (cell_id, situation), group in grouped.items():
        alike[situation, label(group[0].cell)][cell_id] = group[0]
    names = {key: differences(cells) for key, cells in alike.items()}
    found = [
        CellTrials(
            cell_id=cell_id,
            cell=group[0].cell,
            name=_name(group[0].cell, names[situation, label(group[0].cell)][cell_id]),
            situation=situation,
            trials=tuple(group),
            finished={(trial.study, trial.repeat): trial for trial in group if trial.status == FINISHED},
        )
        for (cell_id, situation), group in grouped.items()
    ]
    return tuple(sorted(found, key=lambda cell: (cell.situation, cell.name)))


def _name(cell: Cell, difference: str) -> str:
    return f"{label(cell)} ({difference})" if difference else label(cell)


def situation_of(trial: Trial) -> Situation:
    """All of a trial but its strategy and knobs."""
    told = {f.name: getattr(trial.cell, f.name) for f in fields(Situation) if f.name != "fabric_bytes_per_s"}
    return Situation(**told, fabric_bytes_per_s=trial.fabric_bytes_per_s)


def by_situation(cells: Sequence[CellTrials]) -> dict[Situation, list[CellTrials]]:
    """The cells of each situation."""
    grouped: dict[Situation, list[CellTrials]] = defaultdict(list)
    for cell in cells:
        grouped[cell.situation].append(cell)
    return grouped


_WORDS: Mapping[str, Callable[[Situation], str]] = {
    "model": lambda s: s.model,
    "precision": lambda s: s.precision,
    "checkpointing": lambda s: "activation checkpointing" if s.checkpointing else "no checkpointing",
    "batch_size": lambda s: f"batch {s.batch_size}",
    "accumulation": lambda s: f"accumulation {s.accumulation}",
    "nodes": lambda s: "1 node" if s.nodes == 1 else f"{s.nodes} nodes",
    "ranks": lambda s: "1 rank" if s.ranks == 1 else f"{s.ranks} ranks",
    "fabric_bytes_per_s": lambda s: bandwidth(s.fabric_bytes_per_s) if s.fabric_bytes_per_s else "fabric not told",
}


def axis_words(situation: Situation, axis: str) -> str:
    """What a situation is on one axis: "2 nodes", "200 Mbit/s"."""
    return _WORDS[axis](situation)


def varied_axes(situations: Sequence[Situation]) -> tuple[str, ...]:
    """The axes on which situations differ."""
    return tuple(axis for axis in _WORDS if len({getattr(situation, axis) for situation in situations}) > 1)


def words(situation: Situation, axes: Sequence[str]) -> str:
    """A situation by what tells it from others; "" where nothing does."""
    return ", ".join(axis_words(situation, axis) for axis in axes)


def family(strategy: str) -> str:
    """Whose strategy it is: DEEPSPEED, FSDP or DDP."""
    return DEEPSPEED if strategy.startswith("zero") else FSDP if strategy.startswith("fsdp") else DDP
