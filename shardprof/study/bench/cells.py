"""The trainings of a study: every combination of its matrix that makes sense, each with a name of its own."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from shardprof.study.bench.study_file import TRAINING, Exclude, KnobSet, Length, Located
from shardprof.study.bench.tuning import tuned
from shardprof.study.knobs import KNOBS_OF, Knobs
from shardprof.study.shapes import MODELS

AS_SHIPPED = "as shipped"
TUNED = "tuned"
"""Names of knobs that every study has: see tuning.py for the second."""
PRECISIONS = ("fp32", "bf16", "fp16")
SHARD_SIZE_ON_ONE_NODE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination. `ranks` are of the whole job, on `nodes`; `batch_size` is samples a rank and micro-batch."""

    strategy: str
    knobs: str
    precision: str
    checkpointing: bool
    batch_size: int
    accumulation: int
    model: str
    ranks: int
    nodes: int

    @property
    def global_batch(self) -> int:
        """Samples a step of the whole job."""
        return self.batch_size * self.accumulation * self.ranks

    @property
    def shard_size(self) -> int:
        """The ranks that hold one replica under hybrid sharding: those of a node, or pairs on a single one."""
        return self.ranks // self.nodes if self.nodes > 1 else SHARD_SIZE_ON_ONE_NODE

    @property
    def words(self) -> str:
        """The cell for people."""
        knobs = "" if self.knobs == AS_SHIPPED else f" {self.knobs}"
        checkpointing = " checkpointed" if self.checkpointing else ""
        nodes = f" on {self.nodes} nodes" if self.nodes > 1 else ""
        batch = f"batch {self.batch_size}" + (f" x {self.accumulation}" if self.accumulation > 1 else "")
        return (
            f"{self.strategy}{knobs} {self.precision}{checkpointing}, {self.model}, {batch}, {self.ranks} ranks{nodes}"
        )


def cell_id(cell: Cell, length: Length, knobs: Knobs, fabric_bytes_per_s: float | None) -> str:
    """A name that changes with whatever changes the training, but not with how often the study repeats it."""
    told = asdict(cell) | {"knobs": msgspec.to_builtins(knobs), "fabric_bytes_per_s": fabric_bytes_per_s}
    told |= {name: getattr(length, name) for name in TRAINING}
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:12]


def cells(located: Located, models: Sequence[str], device: str) -> tuple[Cell, ...]:
    """The cells of a study file, in the order of its axes. `models` are those that there are, `device` is "cuda" or
    "cpu". Raises StudyError for what cannot be run."""
    _check_values(located, models)
    found = tuple(_combinations(located))
    if not found:
        raise located.mistake(".exclude[0]", "no cell is left", "leave out less")
    for cell in found:
        _check_cell(cell, located, device)
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


def knobs_of(cell: Cell, named: Mapping[str, KnobSet]) -> Knobs:
    """The knobs behind a cell's name for them."""
    if knobs := named.get(cell.knobs):
        return Knobs(**{name: getattr(knobs, name) for name in Knobs.__struct_fields__})
    if cell.knobs == TUNED:
        return tuned(cell.strategy, MODELS[cell.model].parameters, cell.accumulation)
    return Knobs()


def _is_excluded(cell: Cell, exclude: Exclude) -> bool:
    wanted = {name: value for name in exclude.__struct_fields__ if (value := getattr(exclude, name)) is not None}
    return bool(wanted) and all(_is_among(getattr(cell, name), value) for name, value in wanted.items())


def _is_among(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


def _check_values(located: Located, models: Sequence[str]) -> None:
    matrix, length = located.file.matrix, located.file.study
    known = {
        "strategy": list(KNOBS_OF), "precision": list(PRECISIONS), "model": list(models),
        "knobs": [AS_SHIPPED, TUNED, *located.file.knobs],
    }  # fmt: skip
    for axis in matrix.__struct_fields__:
        values = getattr(matrix, axis)
        if not values:
            raise located.mistake(f".matrix.{axis}", f"{axis} has no value", "give it one, or leave it out")
        for value in values:
            if axis in known and value not in known[axis]:
                raise located.mistake(f".matrix.{axis}", f"no {axis} is called {value!r}", _one_of(known[axis]))
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise located.mistake(f".matrix.{axis}", f"{axis} {value} is not positive", "use 1 or more")
    if (length.steps is None) == (length.epochs is None):
        raise located.mistake(".study.steps", "a training lasts either steps or epochs", "set one of the two")
    if length.steps is not None and length.steps <= length.warm_up + length.captured:
        remedy = f"set steps above {length.warm_up + length.captured}"
        raise located.mistake(".study.steps", f"{length.steps} steps are all warm-up and capture", remedy)
    for name, knobs in located.file.knobs.items():
        _check_knobs(name, knobs, located)


def _check_knobs(name: str, knobs: KnobSet, located: Located) -> None:
    place = f".knobs.{name}"
    for strategy in knobs.strategies:
        if strategy not in KNOBS_OF:
            raise located.mistake(f"{place}.strategies", f"no strategy is called {strategy!r}", _one_of(KNOBS_OF))
        foreign = knobs.told() - KNOBS_OF[strategy]
        if foreign:
            knob = min(foreign)
            message = f"{strategy} has no {knob}"
            raise located.mistake(f"{place}.{knob}", message, f"it has {', '.join(sorted(KNOBS_OF[strategy]))}")


def _check_cell(cell: Cell, located: Located, device: str) -> None:
    if cell.ranks % cell.nodes:
        message = f"{cell.ranks} ranks cannot be {cell.nodes} nodes of the same size"
        raise located.mistake(".matrix.nodes", message, _leave_out(cell, "ranks", "nodes"))
    if cell.strategy.endswith("-hybrid") and cell.ranks % cell.shard_size:
        message = f"{cell.ranks} ranks do not divide into shards of {cell.shard_size} for {cell.strategy}"
        raise located.mistake(".matrix.ranks", message, _leave_out(cell, "strategy", "ranks"))
    if cell.precision == "fp16" and device == "cpu" and cell.strategy.startswith("zero"):
        message = f"{cell.strategy} has no fp16 on a CPU"
        raise located.mistake(".matrix.precision", message, _leave_out(cell, "strategy", "precision"))


def _leave_out(cell: Cell, *axes: str) -> str:
    """How such cells are left out."""
    told = " and ".join(f"{axis} = {msgspec.json.encode(getattr(cell, axis)).decode()}" for axis in axes)
    return f"change it, or add [[exclude]] with {told}"


def _one_of(names: Any) -> str:
    return f"use one of {', '.join(names)}"
