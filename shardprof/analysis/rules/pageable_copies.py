"""R15: batches are copied to the GPU from memory that is not pinned, and the host waits for each copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import (
    Waiting,
    after_calls,
    callers,
    copies,
    longest,
    synchronizations,
    won_ns,
)
from shardprof.trace.device_names import copy_kind
from shardprof.words import milliseconds

LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying(Waiting):
    """`calls` copies a step, made by `callers`, that take `copied_ns`, for which the host waits `waited_ns`."""

    calls: float
    callers: str
    copied_ns: float
    waited_ns: float


def is_pageable(name: str) -> bool:
    """Is a copy of this name one to the device from memory that is not pinned?"""
    return copy_kind(name) == "HtoD" and "Pageable" in name


def observe(view: View) -> Iterator[Copying]:
    """Where the copies themselves, with nothing beside them, and what the GPU lacks because the host waits for them are
    more than LEAST_SHARE of a step."""
    rows = copies(view, is_pageable)
    if not len(rows):
        return
    calls = view.launching(rows)
    waits = np.union1d(calls, after_calls(view, synchronizations(view), calls))
    both = np.concatenate((rows, waits))
    most_ns = view.exposed_ns(view.merged(rows)) + view.idled_ns(waits)
    if most_ns < LEAST_SHARE * view.step_ns:
        return
    yield Copying(
        rank=view.rank,
        evidence=(longest(view, both, "the longest"),),
        rows=view.in_sample(both),
        most_ns=most_ns,
        calls=view.a_step(len(rows)),
        callers=callers(view, calls, len(view.windows)),
        copied_ns=view.a_step_ns(view.merged(rows)),
        waited_ns=view.a_step_ns(view.merged(waits)),
    )


def find(case: Case) -> Iterator[Finding]:
    """Where replaying, too, says that it costs as much."""
    seen = case.seen(Copying)
    if not seen or won_ns(case, seen) < LEAST_SHARE * case.step_ns:
        return
    worst = max(seen, key=lambda observation: observation.most_ns)
    yield case.finding(
        "R15",
        f"{worst.calls:,.3g} {_noun(worst.calls)} a step to the GPU from memory that is not pinned",
        [
            said(f"on rank {worst.rank} they take {milliseconds(worst.copied_ns)} a step, and the host waits "
                 f"{milliseconds(worst.waited_ns)} in the calls; in a step they are made by {worst.callers}"),
            case.longest(seen, "memcpy", "the host or the GPU waits longest for this one"),
        ],
        won_ns(case, seen),
        Turn(
            advice="pin batches in the DataLoader, and do not wait for their copies; make small tensors on the GPU",
            knob="DataLoader(pin_memory=True), batch.to(device, non_blocking=True); torch.arange(n, device=device)",
            side_effect="pinned memory for each batch that is loaded ahead, which cannot be swapped out",
            disproof="copies stay as long when named \"Pinned -> Device\": then it is the bus, or their number",
        ),
    )  # fmt: skip


def _noun(count: float) -> str:
    return "copy" if count == 1 else "copies"
