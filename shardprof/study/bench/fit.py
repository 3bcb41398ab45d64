"""What a training of a cell takes of each rank's memory, part by part, and whether that fits: before it runs.

Model states by the formulas of analysis/volumes/model_states.py; to them comes what is there for a moment. The parts
are summed, though activations are gone when the last gradients come: the peak is an upper bound of what is allocated.
docs/advise.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shardprof.analysis.volumes.model_states import expected_states
from shardprof.analysis.volumes.training_settings import TrainingSettings
from shardprof.study.bench.cells import Cell
from shardprof.study.bench.expected_settings import MAX_LIVE_PARAMETERS, expected_settings, zero_stage
from shardprof.study.knobs import Knobs
from shardprof.study.model_sizes import ELEMENT_BYTES, ModelFacts

FITS, TIGHT, DOES_NOT_FIT, UNKNOWN = "fits", "tight", "does not fit", "unknown"

CONTEXT_BYTES = 3 * 2**29
"""What CUDA and NCCL take of a GPU beside torch's allocator: 1 to 2 GiB."""

PROCESS_BYTES = 450 * 2**20
"""What Python, torch and DeepSpeed take of a process on a CPU: 390 to 480 MiB were measured with torch 2.13."""

FRAGMENTATION = 0.2
"""What torch's allocator may reserve beyond what is active before it is called fragmented."""

_ALL_REDUCE_ELEMENTS = 500_000_000
_ENGINE_STATES = ("gradients", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Bytes a rank by part, and what they are in a memory of `memory_bytes` a rank (None: not known)."""

    parts: Mapping[str, int]
    memory_bytes: int | None

    @property
    def peak_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def room_bytes(self) -> int | None:
        """What is left for activations, fragments left out; negative where the rest alone does not fit."""
        if self.memory_bytes is None:
            return None
        torchs = self.memory_bytes - self.parts["context"]
        return round(torchs / (1 + FRAGMENTATION)) - (
            self.peak_bytes - self.parts["context"] - self.parts["activations"]
        )

    def scaled(self, ratio: float) -> Fit:
        """The same where torch holds so many times as much as by formula."""
        parts = {part: round(size * ratio) for part, size in self.parts.items()}
        return replace(self, parts=parts | {"context": self.parts["context"]})

    @property
    def verdict(self) -> str:
        """Whether it fits: "tight" where it does only while memory is little fragmented."""
        if self.memory_bytes is None or self.room_bytes is None:
            return UNKNOWN
        if self.peak_bytes > self.memory_bytes:
            return DOES_NOT_FIT
        return FITS if self.parts["activations"] <= self.room_bytes else TIGHT


def fit(cell: Cell, knobs: Knobs | None, facts: ModelFacts, memory_bytes: int | None, device: str) -> Fit:
    """The memory of a cell on a "cuda" or "cpu" device that has `memory_bytes` for each rank. `facts` are of the cell's
    precision and checkpointing."""
    told, settings = knobs or Knobs(), expected_settings(cell, knobs, facts)
    states = {part: size for part, size in expected_states(settings).items() if size is not None}
    if device == "cpu":
        # Memory that was never written takes none there.
        states["buckets"] = min(states["buckets"], settings.number("gradient_bytes"))
    elif told.offload:
        states = _offloaded(states, cell)
    parts = {
        **states,
        "gradients": states["gradients"] + _not_yet_reduced_bytes(cell, settings),
        "buckets": states["buckets"] + _flattened_bytes(cell, facts),
        "gathered": _gathered_bytes(cell, told, facts),
        "activations": cell.batch_size * facts.activation_bytes_per_sample,
        "context": CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES,
    }
    return Fit(parts=parts, memory_bytes=memory_bytes)


def _offloaded(states: Mapping[str, int], cell: Cell) -> dict[str, int]:
    """Without what is kept in the host's memory: of ZeRO-1 and ZeRO-2 all but the parameters."""
    hosts = _ENGINE_STATES if zero_stage(cell.strategy) in (1, 2) else (*_ENGINE_STATES, "parameters")
    return {part: 0 if part in hosts else size for part, size in states.items()}


def _not_yet_reduced_bytes(cell: Cell, settings: TrainingSettings) -> int:
    """ZeRO-1 without overlap_comm reduces when backward is over: until then every rank has all gradients."""
    waits = zero_stage(cell.strategy) == 1 and not settings.get("overlap_comm")
    return round(settings.trained_elements * settings.stored_bytes_an_element) if waits else 0


def _flattened_bytes(cell: Cell, facts: ModelFacts) -> int:
    """ZeRO-0 copies gradients together to all-reduce them, so many at once."""
    is_zero0 = zero_stage(cell.strategy) == 0
    return min(facts.parameters, _ALL_REDUCE_ELEMENTS) * ELEMENT_BYTES[cell.precision] if is_zero0 else 0


def _gathered_bytes(cell: Cell, knobs: Knobs, facts: ModelFacts) -> int:
    """Parameters that are whole for a while, and the gradients of one unit before they are scattered; with DDP the
    copies that autocast makes."""
    width = ELEMENT_BYTES[cell.precision]
    if cell.strategy == "ddp":
        return facts.parameters * width if cell.precision != "fp32" else 0
    stage = zero_stage(cell.strategy)
    if stage is not None:
        return min(facts.parameters, MAX_LIVE_PARAMETERS) * width if stage == 3 else 0
    if knobs.wrap == "whole":
        return 2 * facts.parameters * width
    if cell.strategy.endswith("-grad-op"):
        return (facts.parameters + facts.block_parameters) * width
    units = min(facts.blocks, 1 + max(1, knobs.prefetch or 0))
    return (facts.root_parameters + (units + 1) * facts.block_parameters) * width
