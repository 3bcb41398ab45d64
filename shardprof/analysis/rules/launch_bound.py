"""R13: the GPU waits for the CPU to launch work."""

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
from shardprof.analysis.rules._waiting import standing
from shardprof.analysis.rules.allocator import allocations
from shardprof.analysis.rules.changing_steps import compilations
from shardprof.engine import holding, intersect, union

LEAST_SHARE = 0.15
_MEETS = re.compile(r"^(?:gloo:|c10d::(?:monitored_)?barrier_?$)").match
_KNOBS = {
    "FSDP2": "torch.compile(model), or fewer units: fully_shard([block_1, block_2, ...]) of small modules together",
    "FSDP1": "torch.compile(model), or larger units in auto_wrap_policy",
    "DDP": "torch.compile(model), or CUDA graphs",
    "DeepSpeed": "engine.compile(), a larger train_micro_batch_size_per_gpu, stage3_module_granularity_threshold",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Idling(Observation):
    """A GPU that lacks launched work. For `held_ns` of a step the host would have launched earlier, had it not waited
    for the GPU, for memory, for data or for other ranks, or compiled. Its evidence is the longest idleness."""

    held_ns: float


def observe(view: View) -> Iterator[Idling]:
    """Where that is, and the waiting in it that no class of the step's partition tells: a host that is ahead of its GPU
    loses its lead. Until the trace's first activity it is the profiler, or CUDA, that begins."""
    late = view.activities.late_launches
    if not len(late):
        return
    loading = view.activities.data_loading
    is_beginning = late[:, 1] <= view.activities.busy()[0, 0]
    beginning, later = late[is_beginning], late[~is_beginning & (holding(view.windows, late[:, 0]) >= 0)]
    holding_it = [standing(view), view.rows(view.events.named(_MEETS)), allocations(view), compilations(view)]
    held_ns = view.a_step_ns(union(*map(view.merged, holding_it), loading, beginning))
    held_ns -= view.a_step_ns(intersect(late, loading))
    longest = later[np.argsort(later[:, 1] - later[:, 0])][-1:].tolist()
    evidence = tuple(view.between(begin_ns, end_ns, "it waits longest here") for begin_ns, end_ns in longest)
    yield Idling(rank=view.rank, evidence=evidence, held_ns=max(held_ns, 0))


def _launching_ns(case: Case) -> float:
    """What GPUs idle of a step for launches that came late though nothing held the host. A rank that launches later
    than the others is R17's."""
    held: dict[int, list[float]] = {}
    for one in case.seen(Idling):
        held.setdefault(one.rank, []).append(one.held_ns)
    late = {straggler.rank for straggler in case.result.stragglers or () if straggler.cause == "launch"}
    idled: dict[int, list[int]] = {}
    for rank, step in case.full_steps():
        idled.setdefault(rank.rank, []).append(step.partition_ns["launch_bound"])
    own = [max(fmean(times) - fmean(held.get(rank, [0])), 0) for rank, times in idled.items() if rank not in late]
    return fmean(own) if own else 0.0


def find(case: Case) -> Iterator[Finding]:
    """Where the GPU is idle for more than LEAST_SHARE of a step because what comes next was launched too late."""
    cost_ns = _launching_ns(case)
    share = cost_ns / case.step_ns
    if share <= LEAST_SHARE:
        return
    yield case.finding(
        "R13",
        f"The GPU waits for its CPU to launch work, {share:.0%} of a step".replace("%", " %"),
        [
            said("what ends the GPU's idleness was launched after the idleness began"),
            case.longest(case.seen(Idling), "launch_bound", "it waits longest here"),
        ],
        cost_ns,
        Turn(
            advice="give the GPU more work with each launch: compile, capture graphs, larger batches, fused optimizers",
            knob=of_framework(_KNOBS, case) + "; torch.optim.AdamW(fused=True)",
            side_effect="compiling takes time at the start and whenever shapes change; larger batches take memory",
            disproof="twice the batch makes the step twice as long: then the GPU was not waiting",
        ),
    )
