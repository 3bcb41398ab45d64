"""What more ranks give a cell, and what its lost efficiency is lost to.

Weak scaling keeps the batch of each rank: a step should take as long on more ranks. Strong scaling keeps the global
batch: a step should take as much less time as there are more ranks. Both keep the micro-batches of a step. The base is
the cell on the fewest ranks.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.mean_step import by_group
from shardprof.study.conclusions.statistics import times
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import MeanStep, Scaling

WEAK, STRONG = "weak", "strong"


def scaling(study: Study) -> tuple[Scaling, ...]:
    """A row for each cell on more ranks than the fewest of its like."""
    found = [row for kind in (WEAK, STRONG) for group in _alike(study, kind) for row in _rows(study, group, kind)]
    return tuple(sorted(found, key=lambda row: (row.kind, row.situation, -row.efficiency.value)))


def _alike(study: Study, kind: str) -> Iterator[Sequence[CellTrials]]:
    """Cells that differ in the number of ranks, by the number of ranks."""
    groups: dict[object, list[CellTrials]] = defaultdict(list)
    for cell in study.cells:
        if study.of(cell).step_ns:
            s = cell.situation
            batch = s.batch_size if kind == WEAK else cell.cell.global_batch
            groups[cell.name, s.model, s.precision, s.checkpointing, s.accumulation, batch].append(cell)
    for group in groups.values():
        yield sorted(group, key=lambda cell: (cell.situation.ranks, cell.situation.nodes))


def _rows(study: Study, group: Sequence[CellTrials], kind: str) -> Iterator[Scaling]:
    for cell in group:
        base = _base(cell, group)
        ratio = study.time_ratio(base, cell) if base else None
        if base is None or ratio is None:
            continue
        factor = 1.0 if kind == WEAK else base.situation.ranks / cell.situation.ranks
        before, after = study.of(base).mean_step, study.of(cell).mean_step
        yield Scaling(
            name=cell.name,
            situation=cell.situation,
            kind=kind,
            base_ranks=base.situation.ranks,
            base_nodes=base.situation.nodes,
            base_batch_size=base.situation.batch_size,
            efficiency=times(ratio, factor),
            captured_efficiency=before.wall_ns * factor / after.wall_ns if before and after else None,
            lost=_lost(before, after, factor) if before and after else {},
        )


def _base(cell: CellTrials, group: Sequence[CellTrials]) -> CellTrials | None:
    """The cell on the fewest ranks: at the same fabric, or on one node, where there is no fabric to cross."""
    at = cell.situation.fabric_bytes_per_s
    fit = [other for other in group if other.situation.fabric_bytes_per_s == at or other.situation.nodes == 1]
    fewer = itertools.takewhile(lambda other: other.situation.ranks < cell.situation.ranks, fit)
    return next(fewer, None)


def _lost(before: MeanStep, after: MeanStep, factor: float) -> dict[str, float]:
    """What each group of classes takes beyond its ideal part, as a share of the step."""
    ideal, taken = by_group(before), by_group(after)
    groups = [*taken, *(group for group in ideal if group not in taken)]
    return {group: (taken.get(group, 0.0) - factor * ideal.get(group, 0.0)) / after.wall_ns for group in groups}
