"""What is asked: a model of so many parameters on these machines; and the ranges in which lies what nobody told.

Each width has its reason in docs/advise.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardprof.errors import ShardprofError
from shardprof.study.model_sizes import ModelFacts, usual_transformer

MOST_PARAMETERS, MOST_GPUS = 10**14, 10**6


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`, both possible."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Half-way."""
        return (self.low + self.high) / 2

    @property
    def ends(self) -> tuple[float, ...]:
        """Both; one where they are the same."""
        return (self.low,) if self.low == self.high else (self.low, self.high)


NETWORK_EFFICIENCY = Range(0.6, 0.95)
"""What large collectives reach of a link's nominal bandwidth."""

COMPUTE_EFFICIENCY = Range(0.25, 0.55)
"""What a training's compute reaches of the GPU's dense peak (MFU), communication that it waits for left out."""

LINK_BYTES_PER_S = Range(25e9, 450e9)
"""One way between two GPUs of a node, where it is not told: from PCIe 4.0 x16 to the NVLink of an H100."""

OVERLAP = {"torch": Range(0.5, 1.0), "zero3": Range(0.5, 1.0), "zero": Range(0.0, 1.0)}
"""The share of communication that can run under compute that does; "zero" is ZeRO-0, 1 and 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a study measured of a strategy (its name and whether its buckets are small), over what is predicted:
    `time` of a step, `memory` of its peak. `notes` say what it rests on, or why on nothing."""

    time: Mapping[tuple[str, bool], Range] = field(default_factory=dict)
    memory: Mapping[tuple[str, bool], Range] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A model and machines. `memory_bytes` is a GPU's; `fabric_bytes_per_s` what a node can send to others, one way,
    `link_bytes_per_s` what a GPU can send to another one of its node (None: not told). `peak_flops_per_s` is a GPU's
    dense peak and `tokens` those of a rank and step: without one of them the time that a step computes is not known.
    """

    parameters: int
    nodes: int
    gpus_per_node: int
    memory_bytes: int
    fabric_bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None
    precision: str = "bf16"
    peak_flops_per_s: float | None = None
    tokens: int | None = None
    calibration: Calibration = Calibration()

    @property
    def ranks(self) -> int:
        """A rank a GPU."""
        return self.nodes * self.gpus_per_node

    @property
    def link(self) -> Range:
        """Bytes a second inside a node."""
        told = self.link_bytes_per_s
        return LINK_BYTES_PER_S if told is None else Range(told, told)

    @property
    def computes_s(self) -> Range | None:
        """How long a step computes, without anything computed twice."""
        if self.peak_flops_per_s is None or self.tokens is None:
            return None
        least = self.tokens * self.facts(checkpointing=False).flops_per_sample / self.peak_flops_per_s
        return Range(least / COMPUTE_EFFICIENCY.high, least / COMPUTE_EFFICIENCY.low)

    def facts(self, *, checkpointing: bool) -> ModelFacts:
        """The model's, with a token as the sample."""
        return usual_transformer(self.parameters, precision=self.precision, checkpointing=checkpointing)

    def check(self) -> None:
        """Raise ShardprofError for what cannot be answered."""
        if min(self.nodes, self.gpus_per_node) < 1 or self.ranks > MOST_GPUS:
            raise ShardprofError(
                f"{self.nodes} nodes of {self.gpus_per_node} GPUs are no machines", f"use 2 to {MOST_GPUS:,} GPUs"
            )
        if self.ranks == 1:
            raise ShardprofError("one GPU has nothing to share its model with", "ask for two GPUs or more")
        if not 1000 <= self.parameters <= MOST_PARAMETERS:
            raise ShardprofError(
                f"{self.parameters:,} parameters are no model to shard", f"use 1,000 to {MOST_PARAMETERS:,}"
            )
        if self.nodes > 1 and self.fabric_bytes_per_s is None:
            raise ShardprofError(
                f"what {self.nodes} nodes can send each other is not told",
                "add --fabric, one way out of a node, as --fabric 25GB/s",
            )
