"""The cells of a study file: every combination of its matrix that makes sense and is not left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from shardprof.study.bench.cells import AS_SHIPPED, Cell, knobs_of
from shardprof.study.bench.checks import check_cells, check_values
from shardprof.study.bench.located import Located
from shardprof.study.bench.study_file import Exclude, KnobSet
from shardprof.study.knobs import Knobs


def cells(located: Located, models: Sequence[str], device: str) -> tuple[Cell, ...]:
    """In the order of the axes. `models` are those that there are, `device` is "cuda" or "cpu". Raises StudyError for
    what cannot be run."""
    check_values(located, models)
    found = tuple(_combinations(located))
    check_cells(found, located, device)
    return found


def _combinations(located: Located) -> Iterator[Cell]:
    matrix, knobs = located.file.matrix, located.file.knobs
    names = [field.name for field in fields(Cell)]
    for values in itertools.product(*(getattr(matrix, name) for name in names)):
        cell = Cell(**dict(zip(names, values, strict=True)))
        if _is_sensible(cell, knobs) and not any(_is_excluded(cell, exclude) for exclude in located.file.exclude):
            yield cell


def _is_sensible(cell: Cell, knobs: Mapping[str, KnobSet]) -> bool:
    """Knobs by name are for the strategies that they name; "tuned" is for those that have something to tune."""
    if cell.knobs in knobs:
        return cell.strategy in knobs[cell.knobs].strategies
    return cell.knobs == AS_SHIPPED or knobs_of(cell, knobs) != Knobs()


def _is_excluded(cell: Cell, exclude: Exclude) -> bool:
    return all(getattr(cell, axis) in values for axis, values in exclude.told().items())
