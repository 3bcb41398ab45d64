"""R23, R24: steps wait for communication while memory is free: the model need not be sharded that much, or the batch
may be larger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.words import milliseconds

BYTES_AN_ELEMENT = 16
"""Of a model state that is not sharded: parameter, gradient and Adam's two, in fp32 or in bf16 with fp32 masters."""
MOST_STATES = 0.3
MOST_PEAK = 0.6
USABLE = 0.9
LEAST_EXPOSED = 0.1

_FREED_AFTER_FORWARD = {
    "FSDP2": "fully_shard(module, reshard_after_forward=False), or DistributedDataParallel(model) without fully_shard",
    "FSDP1": "FullyShardedDataParallel(sharding_strategy=ShardingStrategy.SHARD_GRAD_OP), or DistributedDataParallel",
    "DeepSpeed": '"zero_optimization": {"stage": 1}, or DistributedDataParallel',
}
_KEPT_AFTER_FORWARD = "DistributedDataParallel(model)"
_SHARDED = {
    "full shard": True,
    "hybrid shard": True,
    "ZeRO-3": True,
    "SHARD_GRAD_OP": False,
    "hybrid SHARD_GRAD_OP": False,
    "reshard_after_forward=False": False,
    "hybrid shard, reshard_after_forward=False": False,
}
"""The strategies that gather parameters for forward, and whether they free them after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Observation):
    """The most that a rank reserved of its device's memory."""

    peak_bytes: int
    device_bytes: int


def observe(view: View) -> Iterator[Memory]:
    """Where records and trace tell both, and a good part is free."""
    peak_bytes, device_bytes = view.peak_bytes, view.device_bytes
    if view.on_gpu and peak_bytes and device_bytes:
        yield Memory(rank=view.rank, peak_bytes=peak_bytes, device_bytes=device_bytes)


def find(case: Case) -> Iterator[Finding]:
    """What could be done with the memory that is free on the fullest rank, where all ranks tell."""
    seen = case.seen(Memory)
    if not seen or {memory.rank for memory in seen} != {rank.rank for rank in case.result.ranks}:
        return
    fullest = max(seen, key=lambda memory: memory.peak_bytes / memory.device_bytes)
    yield from _over_sharded(fullest, case)
    yield from _small_batch(fullest, case)


def _over_sharded(fullest: Memory, case: Case) -> Iterator[Finding]:
    frees = _SHARDED.get(str(case.setting("strategy")))
    states_bytes = BYTES_AN_ELEMENT * (case.number("parameters") or 0)
    moving_ns = case.moving_ns("all_gather")
    fits = states_bytes < min(MOST_STATES * fullest.device_bytes, USABLE * fullest.device_bytes - fullest.peak_bytes)
    if frees is None or not states_bytes or not fits or moving_ns <= LEAST_EXPOSED * case.step_ns:
        return
    yield case.finding(
        "R23",
        "The model is sharded though each GPU could hold it whole",
        [
            said(f"{states_bytes / 1e9:,.3g} GB are parameters, gradients and optimizer states of the whole model at "
                 f"{BYTES_AN_ELEMENT} bytes an element; {_free(fullest)}"),
            case.longest(case.exposed("all_gather"), "all_gather", "one of the longest all-gathers"),
        ],
        case.waiting_ns("all_gather"),
        Turn(
            advice="shard less: then no step gathers parameters, or only once",
            knob=of_framework(_FREED_AFTER_FORWARD, case) if frees else _KEPT_AFTER_FORWARD,
            side_effect="memory for whole parameters, with DDP for gradients and optimizer states too; DDP all-reduces "
            "gradients, twice the bytes of a reduce-scatter",
            disproof="larger batches or longer sequences are to come, which need the memory",
        ),
    )  # fmt: skip


def _small_batch(fullest: Memory, case: Case) -> Iterator[Finding]:
    bound = case.result.summary.bound if case.result.summary else None
    if bound is None or bound.by != "communication" or fullest.peak_bytes >= MOST_PEAK * fullest.device_bytes:
        return
    growth = USABLE * fullest.device_bytes / fullest.peak_bytes
    moving_ns = case.moving_ns()
    if moving_ns <= LEAST_EXPOSED * case.step_ns:
        return
    yield case.finding(
        "R24",
        f"Memory for {growth:.1f} times the batch is free while steps wait for communication",
        [
            said(_free(fullest)),
            said(f"{milliseconds(moving_ns)} of a step is exposed communication, other than waiting for late ranks; "
                 "its bytes do not grow with the batch, so that each sample then bears less of it"),
        ],
        moving_ns * (1 - 1 / growth),
        Turn(
            advice="larger micro-batches: the same communication for more samples",
            knob=_larger_batch(growth, case),
            side_effect="a larger global batch, which the learning rate must suit, unless accumulation is cut alike",
            disproof="samples a second stay as they are: then what communicates grows with the batch",
        ),
    )  # fmt: skip


def _larger_batch(growth: float, case: Case) -> str:
    knob = '"train_micro_batch_size_per_gpu"' if case.framework == "DeepSpeed" else "DataLoader(batch_size=...)"
    batch = case.number("micro_batch_size")
    return f"{knob}: " + (f"from {batch:,.0f} to {batch * growth:,.0f}" if batch else f"{growth:.1f} times as large")


def _free(fullest: Memory) -> str:
    return (
        f"rank {fullest.rank}, the fullest, never reserved more than {fullest.peak_bytes / 1e9:,.3g} GB of its GPU's "
        f"{fullest.device_bytes / 1e9:,.3g} GB"
    )
