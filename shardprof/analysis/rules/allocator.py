"""R10, R11: torch's allocator asks the device for memory in steps, or holds what nothing fits into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, longest, won_ns
from shardprof.engine import Int64s, holding
from shardprof.trace.launches import LAUNCH_CATEGORIES
from shardprof.words import milliseconds, plural

LEAST_SHARE = 0.01
LEAST_STEPS_RETRIED = 3
LEAST_UNUSED = 0.2
_WARM_UP = 2
_ALLOCATES = re.compile(r"(?:cuda|hip)(?:Malloc|Free)$").match
_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_GROWING = "expandable_segments:True"
_SMALLER = {
    "FSDP2": "a smaller micro-batch, or torch.utils.checkpoint.checkpoint",
    "FSDP1": "FullyShardedDataParallel(..., limit_all_gathers=True), a smaller micro-batch",
    "DDP": "a smaller micro-batch, or torch.utils.checkpoint.checkpoint",
    "DeepSpeed": 'a smaller "train_micro_batch_size_per_gpu", or a higher ZeRO "stage"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocating(Waiting):
    """Steps in which `calls` ask the device for memory or give it back, for `held_ns` of the host's time."""

    calls: float
    held_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(Observation):
    """Memory ran short in `times` of `steps`, which cost each of the latter `lost_ns` in the mean."""

    times: int
    steps: int
    lost_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused(Observation):
    """Memory that torch reserved and that was not in use even at the peak, and that of the device."""

    unused_bytes: int
    device_bytes: int


def allocations(view: View) -> Int64s:
    """Calls that ask the device for memory or give it back."""
    return view.rows(view.events.in_categories(*LAUNCH_CATEGORIES) & view.events.named(_ALLOCATES))


def observe(view: View) -> Iterator[Observation]:
    """What the trace shows of it, and the records of all steps."""
    yield from _allocating(view)
    yield from _retrying(view)
    yield from _unused(view)


def _allocating(view: View) -> Iterator[Allocating]:
    """Calls in half of the steps or more, the last one among them: at first, every training allocates."""
    events = view.events
    rows = allocations(view)
    steps = np.unique(holding(view.windows, events.begin_ns[rows]))
    most_ns = view.idled_ns(rows)
    is_steady = len(steps) >= max(2, len(view.windows) / 2) and steps[-1] == len(view.windows) - 1
    if not is_steady or most_ns < LEAST_SHARE * view.step_ns:
        return
    yield Allocating(
        rank=view.rank,
        evidence=(longest(view, rows, "the longest of these calls"),),
        rows=view.in_sample(rows),
        most_ns=most_ns,
        calls=view.a_step(len(rows)),
        held_ns=view.a_step_ns(view.merged(rows)),
    )


def _retrying(view: View) -> Iterator[Retrying]:
    """Retries go on after the first steps: what those steps took longer than the others was lost."""
    steps = [step for step in view.step_records[_WARM_UP:] if step.cuda_memory and not step.profiling]
    retries = np.array([step.cuda_memory.get("alloc_retries", 0) for step in steps])
    grew = np.diff(retries, prepend=retries[:1]) > 0
    if grew.sum() < LEAST_STEPS_RETRIED:
        return
    wall_ns = np.array([step.end_ns - step.begin_ns for step in steps])
    excess_ns = 0.0 if grew.all() else float(np.median(wall_ns[grew]) - np.median(wall_ns[~grew]))
    lost_ns = max(excess_ns, 0.0) * float(grew.mean())
    yield Retrying(rank=view.rank, times=int(grew.sum()), steps=len(steps), lost_ns=lost_ns)


def _unused(view: View) -> Iterator[Unused]:
    """Reserved less the peak of what was active, where that is more than LEAST_UNUSED of the device."""
    memory = [step.cuda_memory for step in view.step_records if step.cuda_memory]
    device_bytes = view.device_bytes
    if not memory or not device_bytes:
        return
    unused_bytes = memory[-1].get("reserved_bytes", 0) - max(held.get("peak_active_bytes", 0) for held in memory)
    if unused_bytes > LEAST_UNUSED * device_bytes:
        yield Unused(rank=view.rank, unused_bytes=unused_bytes, device_bytes=device_bytes)


def find(case: Case) -> Iterator[Finding]:
    """What each of the three shows; the first two are one."""
    allocating, retrying = case.seen(Allocating), case.seen(Retrying)
    won = won_ns(case, allocating) if allocating else 0.0
    if retrying or won >= LEAST_SHARE * case.step_ns:
        yield _short(case, allocating, retrying, won)
    if unused := case.seen(Unused):
        yield _fragmented(case, max(unused, key=lambda observation: observation.unused_bytes))


def _short(case: Case, allocating: list[Allocating], retrying: list[Retrying], won: float) -> Finding:
    evidence = []
    if allocating:
        calls = max(allocating, key=lambda observation: observation.held_ns)
        message = f"rank {calls.rank} asks the device for memory or gives it back {calls.calls:,.3g} times a step"
        evidence += [said(f"{message}, which holds the host {milliseconds(calls.held_ns)}"), *calls.evidence]
    if retrying:
        short = max(retrying, key=lambda observation: observation.times)
        message = f"rank {short.rank} ran short in {short.times:,} of {plural(short.steps, 'step')}"
        evidence.append(said(f"{message}: torch then gives back all that it caches, and asks again"))
    lost_ns = fmean(observation.lost_ns for observation in retrying) if retrying else 0.0
    return case.finding(
        "R10",
        "GPU memory runs short: torch allocates it anew in steps that should find it in the cache",
        evidence,
        max(won, lost_ns),
        _turn(case, "steps allocate as before with half the batch: then something else takes the memory"),
    )


def _fragmented(case: Case, worst: Unused) -> Finding:
    held, share = worst.unused_bytes / 1e9, worst.unused_bytes / worst.device_bytes
    return case.finding(
        "R11",
        f"{held:,.1f} GB of the GPU's memory are reserved and of no use: {share:.0%} of it".replace("%", " %"),
        [said(f"on rank {worst.rank}, torch holds so much more than was ever active at once: blocks between which "
              "nothing fits, or which another stream keeps")],
        None,
        _turn(case, "reserved memory stays as far above the peak of active memory"),
    )  # fmt: skip


def _turn(case: Case, disproof: str) -> Turn:
    told = [case.result.source.environment.get(name, "") for name in _SETTINGS]
    if any(_GROWING in setting for setting in told):
        return Turn(
            advice="segments grow already: let steps need less memory",
            knob=of_framework(_SMALLER, case),
            side_effect="smaller batches use the GPU less, recomputing and sharding take time",
            disproof=disproof,
        )
    return Turn(
        advice="let segments grow instead of being allocated for each size; else let steps need less memory",
        knob=f"PYTORCH_ALLOC_CONF={_GROWING}; else {of_framework(_SMALLER, case)}",
        side_effect="the first steps take a little longer; what is smaller uses the GPU less",
        disproof=disproof,
    )
