"""What a study file says that cannot be meant or run anywhere: told with its line and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from shardprof.study.bench.cells import AS_SHIPPED, PRECISIONS, TUNED, Cell
from shardprof.study.bench.located import Located
from shardprof.study.bench.study_file import Exclude, KnobSet
from shardprof.study.knobs import KNOBS_OF

_MOST_COMBINATIONS = 100_000


def check_values(located: Located, models: Sequence[str]) -> None:
    """Raise StudyError for a value that does not exist, or one that says nothing."""
    _check_length(located)
    _check_matrix(located, models)
    for name, knobs in located.file.knobs.items():
        _check_knobs(name, knobs, located)
    for number, exclude in enumerate(located.file.exclude):
        _check_exclude(f".exclude[{number}]", exclude, located)


def check_cells(found: Sequence[Cell], located: Located, device: str) -> None:
    """Raise StudyError where a cell cannot be run on a "cuda" or "cpu" device, none is left, or knobs are in none."""
    if not found:
        raise located.mistake(".exclude[0]", "no cell is left", "leave out less")
    for name in located.file.knobs:
        if all(cell.knobs != name for cell in found):
            remedy = "add its name to knobs and its strategies to strategy in [matrix], or take it out"
            raise located.mistake(f".knobs.{name}", f"no cell has the knobs {name!r}", remedy)
    for cell in found:
        _check_cell(cell, located, device)


def _check_length(located: Located) -> None:
    length = located.file.study
    if (length.steps is None) == (length.epochs is None):
        raise located.mistake(".study.steps", "a training lasts either steps or epochs", "set one of the two")
    if length.evaluate_every == 1:
        message = "every step holds an evaluation, so that none counts in figures"
        raise located.mistake(".study.evaluate_every", message, "set evaluate_every to 2 or more")
    if length.steps is not None and length.steps < length.least_steps:
        message = f"of {length.steps} steps none counts in figures: they are warm-up, capture and what disturbs"
        raise located.mistake(".study.steps", message, f"set steps to {length.least_steps} or more")


def _check_matrix(located: Located, models: Sequence[str]) -> None:
    matrix = located.file.matrix
    known = {
        "strategy": list(KNOBS_OF), "precision": list(PRECISIONS), "model": list(models),
        "knobs": [AS_SHIPPED, TUNED, *located.file.knobs],
    }  # fmt: skip
    axes = {axis: getattr(matrix, axis) for axis in matrix.__struct_fields__}
    for axis, values in axes.items():
        if not values:
            raise located.mistake(f".matrix.{axis}", f"{axis} has no value", "give it one, or leave it out")
        for number, value in enumerate(values):
            if value not in known.get(axis, values):
                raise located.mistake(f".matrix.{axis}", f"no {axis} is called {value!r}", _one_of(known[axis]))
            if value in values[:number]:
                raise located.mistake(f".matrix.{axis}", f"{axis} has {value!r} twice", "say it once")
    combinations = math.prod(map(len, axes.values()))
    if combinations > _MOST_COMBINATIONS:
        message = f"the matrix has {combinations:,} combinations"
        raise located.mistake(".matrix", message, f"give its axes fewer values: {_MOST_COMBINATIONS:,} are the most")


def _check_knobs(name: str, knobs: KnobSet, located: Located) -> None:
    place = f".knobs.{name}"
    if name in (AS_SHIPPED, TUNED):
        raise located.mistake(place, f"every study has the knobs {name!r}", "give yours another name")
    for strategy in knobs.strategies:
        if strategy not in KNOBS_OF:
            raise located.mistake(f"{place}.strategies", f"no strategy is called {strategy!r}", _one_of(KNOBS_OF))
        foreign = knobs.told() - KNOBS_OF[strategy]
        if foreign:
            knob = min(foreign)
            message = f"{strategy} has no {knob}"
            raise located.mistake(f"{place}.{knob}", message, f"it has {', '.join(sorted(KNOBS_OF[strategy]))}")


def _check_exclude(place: str, exclude: Exclude, located: Located) -> None:
    told = exclude.told()
    if not any(told.values()):
        raise located.mistake(place, "exclude without a value leaves nothing out", "name what to leave out")
    for axis, values in told.items():
        there = getattr(located.file.matrix, axis)
        for value in values:
            if value not in there:
                message = f"exclude leaves out {axis} {value!r}, which the matrix does not have"
                raise located.mistake(f"{place}.{axis}", message, _one_of(there))


def _check_cell(cell: Cell, located: Located, device: str) -> None:
    if cell.ranks % cell.nodes:
        message = f"{cell.ranks} ranks cannot be {cell.nodes} nodes of the same size"
        raise located.mistake(".matrix.nodes", message, _leave_out(cell, "ranks", "nodes"))
    if cell.is_hybrid and cell.ranks % cell.shard_size:
        message = f"{cell.ranks} ranks do not divide into shards of {cell.shard_size} for {cell.strategy}"
        raise located.mistake(".matrix.ranks", message, _leave_out(cell, "strategy", "ranks"))
    if cell.precision == "fp16" and device == "cpu" and cell.strategy.startswith("zero"):
        message = f"{cell.strategy} has no fp16 on a CPU"
        raise located.mistake(".matrix.precision", message, _leave_out(cell, "strategy", "precision"))


def _leave_out(cell: Cell, *axes: str) -> str:
    """How such cells are left out."""
    told = " and ".join(f"{axis} = {msgspec.json.encode(getattr(cell, axis)).decode()}" for axis in axes)
    return f"change it, or add [[exclude]] with {told}"


def _one_of(names: Iterable[object]) -> str:
    return f"use one of {', '.join(map(str, names))}"
