"""R29: the host waits for the GPU in the middle of its work, and the GPU then waits for the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._exchanges import NO_ROWS, exchanges
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import (
    Waiting,
    after_calls,
    callers,
    copies,
    longest_idleness,
    standing,
    won_ns,
)
from shardprof.analysis.rules.pageable_copies import is_pageable
from shardprof.analysis.rules.rate_limiter import limiting
from shardprof.engine import Int64s, holding
from shardprof.words import milliseconds

LEAST_SHARE = 0.01
_OFTEN = "print(loss.item()) every 100 steps only, else loss.detach(); torch.where(mask, a, b) instead of a[mask]"
_KNOBS = {
    "DeepSpeed": f'{_OFTEN}; "wall_clock_breakdown": false, "steps_per_print": 100',
    "FSDP1": _OFTEN,
    "FSDP2": _OFTEN,
    "DDP": _OFTEN,
}
_BLOCKING = {
    "CUDA_LAUNCH_BLOCKING": "each launch returns only when its kernel is done: nothing overlaps",
    "TORCH_NCCL_BLOCKING_WAIT": "waiting for a collective holds the host until it is done: nothing is launched ahead",
    "NCCL_BLOCKING_WAIT": "waiting for a collective holds the host until it is done: nothing is launched ahead",
}
_OFF = ("", "0", "n", "no", "f", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronizing(Waiting):
    """The host waits in every step, but for one at an end of the trace: for `waited_ns`, called by `callers`."""

    waited_ns: float
    callers: str


def observe(view: View) -> Iterator[Synchronizing]:
    """Where the GPU can have idled for more than LEAST_SHARE of a step because of such calls."""
    calls = _calls(view)
    most_ns = view.idled_ns(calls)
    steps = np.unique(holding(view.windows, view.events.begin_ns[calls]))
    if most_ns < LEAST_SHARE * view.step_ns or not _are_all(steps, len(view.windows)):
        return
    message = "the host waits here until the GPU is done, and the GPU until it is given work again"
    yield Synchronizing(
        rank=view.rank,
        evidence=(longest_idleness(view, calls, message),),
        rows=view.in_sample(calls),
        most_ns=most_ns,
        waited_ns=view.a_step_ns(view.merged(calls)) * len(view.windows) / len(steps),
        callers=callers(view, calls, len(steps)),
    )


def _are_all(steps: Int64s, count: int) -> bool:
    """Does this happen in every step? In the last one it can come after all launches, where the profiler waits, too;
    in the first one before them."""
    missing = np.setdiff1d(np.arange(count), steps)
    return not len(missing) or (len(missing) == 1 < len(steps) and missing[0] in (0, count - 1))


def _calls(view: View) -> Int64s:
    """All that waits but for what other rules are about: copies from pageable memory, FSDP's rate limiter, barriers."""
    calls = standing(view)
    uploads = view.launching(copies(view, is_pageable))
    calls = np.setdiff1d(calls, after_calls(view, calls, uploads))
    calls = np.setdiff1d(calls, np.concatenate([NO_ROWS, *(exchange.waits for exchange in exchanges(view))]))
    return calls[holding(view.merged(limiting(view)), view.events.begin_ns[calls]) < 0]


def find(case: Case) -> Iterator[Finding]:
    """Calls that wait, and settings that make every launch or collective wait."""
    seen = case.seen(Synchronizing)
    if seen and won_ns(case, seen) >= LEAST_SHARE * case.step_ns:
        yield _waits(case, seen)
    for name, effect in _BLOCKING.items():
        value = case.result.source.environment.get(name, "")
        if case.on_gpu and value.lower() not in _OFF:
            yield _blocking(case, f"{name}={value}", effect)


def _waits(case: Case, seen: list[Synchronizing]) -> Finding:
    worst = max(seen, key=lambda observation: observation.waited_ns)
    return case.finding(
        "R29",
        f"The host waits for the GPU {milliseconds(worst.waited_ns)} a step, and the GPU then for the host",
        [
            said(f"on rank {worst.rank} these wait, with how often in a step: {worst.callers}"),
            case.longest(seen, "launch_bound", "the GPU idles for longest after this one"),
        ],
        won_ns(case, seen),
        Turn(
            advice="keep values on the GPU, and look at them rarely: the host runs ahead then, and launches in time",
            knob=of_framework(_KNOBS, case),
            side_effect="a loss that is not a number is seen later",
            disproof="without these calls another one waits as long: then the GPU has no work to be given earlier",
        ),
    )


def _blocking(case: Case, setting: str, effect: str) -> Finding:
    return case.finding(
        "R29",
        f"{setting} is set",
        [said(effect)],
        None,
        Turn(
            advice="unset it where nothing is debugged",
            knob=f"unset {setting.partition('=')[0]}",
            side_effect="an error is reported by a later call than the one that made it",
            disproof="steps take as long without it",
        ),
    )
