"""R30: captured steps are not like all others: torch.compile compiles in them, or they are the first ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, longest, won_ns
from shardprof.engine import Int64s, holding
from shardprof.words import milliseconds, plural

LEAST_SHARE = 0.01
SLOW_FIRST = 2.0
_WARM_UP = 2
_FEWEST_OTHERS = 3
_COMPILES = re.compile(r"(?:_compile\.compile_inner|backward\._backward_impl) \(dynamo_timed\)$").match
_KNOBS = dict.fromkeys(("FSDP1", "FSDP2", "DDP"), "torch.compile(model, dynamic=True)") | {
    "DeepSpeed": 'engine.compile(compile_kwargs={"dynamic": True})'
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling(Waiting):
    """torch.compile works in `steps` of `of_steps`, which takes `held_ns` of each in the mean."""

    steps: int
    of_steps: int
    held_ns: float


def compilations(view: View) -> Int64s:
    """torch.compile's own ranges, forward's and backward's."""
    return view.rows(view.events.named(_COMPILES))


def observe(view: View) -> Iterator[Compiling]:
    """Compilations, but for those of a training's first steps."""
    events = view.events
    warm_up = [number < _WARM_UP for number in view.steps.numbers]
    first_ns = int(view.steps.windows[warm_up, 1].max(initial=0))
    rows = compilations(view)
    rows = rows[events.begin_ns[rows] >= first_ns]
    most_ns = view.idled_ns(rows) if view.on_gpu else view.a_step_ns(view.merged(rows))
    if most_ns < LEAST_SHARE * view.step_ns:
        return
    yield Compiling(
        rank=view.rank,
        evidence=(longest(view, rows, "the longest compilation"),),
        rows=view.in_sample(rows),
        most_ns=most_ns,
        steps=len(np.unique(holding(view.windows, events.begin_ns[rows]))),
        of_steps=len(view.windows),
        held_ns=view.a_step_ns(view.merged(rows)),
    )


def find(case: Case) -> Iterator[Finding]:
    """What was seen of either, and first steps among the captured."""
    compiling = case.seen(Compiling)
    if compiling and won_ns(case, compiling) >= LEAST_SHARE * case.step_ns:
        yield _recompiles(case, compiling)
    yield from _first_steps(case)


def _recompiles(case: Case, seen: list[Compiling]) -> Finding:
    worst = max(seen, key=lambda observation: observation.held_ns)
    return case.finding(
        "R30",
        f"torch.compile compiles in {worst.steps} of {plural(worst.of_steps, 'captured step')}",
        [
            said(f"on rank {worst.rank} that takes {milliseconds(worst.held_ns)} a step in the mean"),
            case.longest(seen, "launch_bound", "the longest compilation"),
        ],
        won_ns(case, seen),
        Turn(
            advice="TORCH_LOGS=recompiles names the guard that failed: let shapes that change be dynamic, or pad them",
            knob=f"{of_framework(_KNOBS, case)}, torch._dynamo.mark_dynamic(batch, 1), batches of a few fixed lengths",
            side_effect="kernels for any shape can be slower than those for one; padding is computed, too",
            disproof="TORCH_LOGS=recompiles prints nothing after the first steps: then these were they",
        ),
    )


def _first_steps(case: Case) -> Iterator[Finding]:
    """Steps 0 and 1, where they take SLOW_FIRST times the median of the others on most ranks."""
    walls: dict[int, list[int]] = {}
    for _rank, step in case.full_steps():
        walls.setdefault(step.step, []).append(step.wall_ns)
    usual = [median(times) for number, times in walls.items() if number >= _WARM_UP]
    if case.result.step_source not in ("ProfilerStep", "recorded marks") or len(usual) < _FEWEST_OTHERS:
        return
    slow = {number: median(walls[number]) / median(usual) for number in range(_WARM_UP) if number in walls}
    slow = {number: ratio for number, ratio in slow.items() if ratio >= SLOW_FIRST}
    if slow:
        yield _warm_up(case, slow)


def _warm_up(case: Case, slow: dict[int, float]) -> Finding:
    told = ", ".join(f"step {number} takes {ratio:,.3g}x" for number, ratio in slow.items())
    recorded = case.result.source.kind == "run"
    return case.finding(
        "R30",
        f"Warm-up is among the captured steps: {told} the median of later ones",
        [
            said("first steps also allocate memory, connect ranks, load and tune kernels; they count in all means and "
                 "sums of this report")
        ],
        None,
        Turn(
            advice="capture later steps",
            knob="shardprof record --steps 7:12" if recorded else "torch.profiler.schedule(wait=5, warmup=2, active=5)",
            side_effect="none",
            disproof="later steps that are captured alone take as long",
        ),
    )  # fmt: skip
