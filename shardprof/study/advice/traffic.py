"""What a strategy sends in a step, when, and how much of it can run under compute at all, as its framework is shipped.

A collective of ranks on several nodes is taken for a ring: each rank sends the same, one rank a node to the next node.
Replicas of a hybrid shard are reduced between nodes by all ranks of a node at once. docs/advise.md has what can hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.volumes.strategy_traffic import Passes, expected, gathered_again_bytes
from shardprof.analysis.volumes.training_settings import TrainingSettings
from shardprof.study.bench.cells import Cell
from shardprof.study.bench.expected_settings import MAX_LIVE_PARAMETERS, expected_settings, zero_stage
from shardprof.study.knobs import Knobs
from shardprof.study.model_sizes import ELEMENT_BYTES, ModelFacts
from shardprof.trace.classes import wire_factor

FORWARD, BACKWARD, AFTER = "forward", "backward", "after the step"
_DDP_BUCKET_BYTES = 25 * 2**20
_NO_PREFETCH = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What each rank sends in a phase of a step: `sent_bytes`, of which the share `can_hide` may run under compute. It
    goes around all ranks or, where it is `inside` or `between` nodes, only there."""

    phase: str
    sent_bytes: float
    can_hide: float
    inside: bool = True
    between: bool = True

    def between_bytes(self, nodes: int, gpus_per_node: int) -> float:
        """What of it a rank sends to another node, in the mean over a node's ranks."""
        if nodes == 1 or not self.between:
            return 0.0
        return self.sent_bytes / gpus_per_node if self.inside else self.sent_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """All transfers of a step: the least and the most that it may be, where the framework does not tell."""

    least: tuple[Transfer, ...]
    most: tuple[Transfer, ...]

    @property
    def sent_bytes(self) -> float:
        """At most."""
        return sum(transfer.sent_bytes for transfer in self.most)


def traffic(cell: Cell, knobs: Knobs, facts: ModelFacts) -> Traffic:
    """The transfers of a step of one micro-batch."""
    stage = zero_stage(cell.strategy)
    if stage == 3:
        most = tuple(_zero3(cell, knobs, facts, again_share=1.0))
        return Traffic(least=tuple(_zero3(cell, knobs, facts, again_share=_least_again(cell, facts))), most=most)
    transfers = _of_torch(cell, knobs, facts) if stage is None else _of_zero(cell, knobs, facts)
    told = tuple(transfer for transfer in transfers if transfer.sent_bytes)
    return Traffic(least=told, most=told)


def _of_torch(cell: Cell, knobs: Knobs, facts: ModelFacts) -> Iterator[Transfer]:
    settings, moved = _moved(cell, knobs, facts)
    if cell.strategy == "ddp":
        last = _DDP_BUCKET_BYTES / settings.number("reduce_bytes")
        yield Transfer(phase=BACKWARD, sent_bytes=moved["all_reduce"], can_hide=max(0.0, 1 - last))
        return
    everywhere = settings.replicas == 1
    shards = wire_factor("all_gather", settings.shards)
    first = (facts.root_parameters + facts.block_parameters) / facts.parameters
    blocks = facts.parameters - facts.root_parameters
    again = settings.number("gather_again_bytes") * shards
    first_gathered = moved["all_gather"] - again
    yield Transfer(phase=FORWARD, sent_bytes=first_gathered, can_hide=1 - first, between=everywhere)
    yield Transfer(phase=BACKWARD, sent_bytes=again, can_hide=1 - facts.block_parameters / blocks, between=everywhere)
    yield Transfer(phase=BACKWARD, sent_bytes=moved["reduce_scatter"], can_hide=1 - first, between=everywhere)
    reduced = moved.get("all_reduce", 0.0)
    yield Transfer(phase=BACKWARD, sent_bytes=reduced, can_hide=1 - first, inside=cell.nodes == 1)


def _of_zero(cell: Cell, knobs: Knobs, facts: ModelFacts) -> Iterator[Transfer]:
    """ZeRO-0 to 2: parameters are gathered after the step, with nothing to hide under."""
    settings, moved = _moved(cell, knobs, facts)
    hides = zero_stage(cell.strategy) != 0 and settings.get("overlap_comm")
    can_hide = _full_buckets(settings) if hides else 0.0
    yield Transfer(phase=BACKWARD if can_hide else AFTER, sent_bytes=moved["all_reduce"], can_hide=can_hide)
    yield Transfer(phase=AFTER, sent_bytes=moved.get("all_gather", 0.0), can_hide=0.0)


def _zero3(cell: Cell, knobs: Knobs, facts: ModelFacts, *, again_share: float) -> Iterator[Transfer]:
    """Where prefetching decides what stays gathered, the share of the most that is gathered again is told."""
    plain, moved = _moved(cell, _without_prefetch(knobs), facts)
    gathered = wire_factor("all_gather", cell.ranks)
    again = again_share * gathered_again_bytes(plain) * gathered
    after = plain.number("persistent_bytes") * gathered
    unit = 1 - facts.block_parameters / facts.parameters
    for phase, sent, can_hide in (
        (FORWARD, plain.number("gather_bytes") * gathered, unit),
        (BACKWARD, again, unit),
        (BACKWARD, moved["reduce_scatter"], _full_buckets(plain) if plain.get("overlap_comm") else 0.0),
        (AFTER, after, 0.0),
    ):
        if sent:
            yield Transfer(phase=phase, sent_bytes=sent, can_hide=can_hide)


def _least_again(cell: Cell, facts: ModelFacts) -> float:
    """What is gathered again if prefetching keeps as much as it may, as a share of what is without prefetching."""
    plain = expected_settings(cell, _without_prefetch(Knobs()), facts)
    most = gathered_again_bytes(plain)
    kept = MAX_LIVE_PARAMETERS * ELEMENT_BYTES[cell.precision]
    return max(0.0, plain.number("gather_bytes") - kept) / most if most else 0.0


def _without_prefetch(knobs: Knobs) -> Knobs:
    told = {name: getattr(knobs, name) for name in knobs.told()}
    return Knobs(**told | {"prefetch_bucket_elements": _NO_PREFETCH})


def _full_buckets(settings: TrainingSettings) -> float:
    """The share of gradients in buckets that are full, and so reduced, before backward ends."""
    bucket, whole = settings.number("reduce_bucket_elements"), settings.trained_elements
    return max(0.0, 1 - bucket / whole)


def _moved(cell: Cell, knobs: Knobs, facts: ModelFacts) -> tuple[TrainingSettings, dict[str, float]]:
    settings = expected_settings(cell, knobs, facts)
    return settings, expected(settings, Passes(micro_batches=1, reductions=1), "reduce_scatter")
