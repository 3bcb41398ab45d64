"""A training of a study: one combination of its matrix, with a name of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec

from shardprof.study.bench.study_file import TRAINING, KnobSet, Length
from shardprof.study.bench.tuning import tuned
from shardprof.study.knobs import Knobs
from shardprof.study.shapes import MODELS
from shardprof.words import plural

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
    def is_hybrid(self) -> bool:
        """Whether it shards among some of the ranks and keeps replicas on others."""
        return self.strategy.endswith("-hybrid")

    @property
    def has_one_replica(self) -> bool:
        """Whether hybrid sharding has no second replica here, which makes it full sharding."""
        return self.is_hybrid and self.ranks == self.shard_size

    @property
    def words(self) -> str:
        """The cell for people."""
        knobs = "" if self.knobs == AS_SHIPPED else f" {self.knobs}"
        checkpointing = " checkpointed" if self.checkpointing else ""
        nodes = f" on {self.nodes} nodes" if self.nodes > 1 else ""
        batch = f"batch {self.batch_size}" + (f" x {self.accumulation}" if self.accumulation > 1 else "")
        return (
            f"{self.strategy}{knobs} {self.precision}{checkpointing}, {self.model}, {batch}, "
            f"{plural(self.ranks, 'rank')}{nodes}"
        )


def cell_id(cell: Cell, length: Length, knobs: Knobs, fabric_bytes_per_s: float | None, device: str) -> str:
    """A name that changes with whatever changes the training, but not with how often the study repeats it. `device` is
    the "cuda" or "cpu" that it trains on, whether the study names it or not."""
    told = asdict(cell) | {"knobs": msgspec.to_builtins(knobs), "fabric_bytes_per_s": fabric_bytes_per_s}
    told |= {name: getattr(length, name) for name in TRAINING} | {"device": device}
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:12]


def knobs_of(cell: Cell, named: Mapping[str, KnobSet]) -> Knobs:
    """The knobs behind a cell's name for them."""
    if knobs := named.get(cell.knobs):
        return Knobs(**{name: getattr(knobs, name) for name in Knobs.__struct_fields__})
    if cell.knobs == TUNED:
        return tuned(cell.strategy, MODELS[cell.model].parameters, cell.accumulation)
    return Knobs()
