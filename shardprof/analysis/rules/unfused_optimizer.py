"""R32: the optimizer updates tensor by tensor, with many small operations each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import UPDATE, View
from shardprof.engine import Int64s, holding
from shardprof.words import milliseconds

FEWEST = 100
SHORT_NS = 20_000
LEAST_SHARE = 0.03
HAVE_FUSED = ("Adagrad", "Adam", "AdamW", "SGD")
HAVE_FOREACH = ("ASGD", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop")

_KERNEL = re.compile(r"elementwise_kernel")  # those of foreach and fused optimizers are "multi_tensor_apply_kernel"
_OPERATOR = re.compile(r"^aten::(add|sub|mul|div|pow|neg|abs|sign|sqrt|rsqrt|maximum|lerp|addcmul|addcdiv)_?$")
_FUSED = re.compile(r"^aten::_fused_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Updating(Observation):
    """Steps of the `optimizer`, which take the host `host_ns` a step, in `count` small operations a step; half of these
    take no longer than `median_ns`."""

    optimizer: str
    host_ns: float
    count: float
    median_ns: float


def observe(view: View) -> Iterator[Updating]:
    """The optimizer's ranges and the small operations of FEWEST a step or more in them."""
    ranges = view.updates
    host_ns = view.a_step_ns(view.merged(ranges))
    if host_ns < LEAST_SHARE * view.step_ns:
        return
    small = (_kernels if view.on_gpu else _operators)(view)
    durations_ns = view.events.end_ns[small] - view.events.begin_ns[small]
    if view.a_step(len(small)) < FEWEST or np.median(durations_ns) > SHORT_NS:
        return
    longest = int(ranges[(view.events.end_ns[ranges] - view.events.begin_ns[ranges]).argmax()])
    name = UPDATE.match(view.events.name_of(longest))
    yield Updating(
        rank=view.rank,
        evidence=(view.at(longest, "its longest step"),),
        rows=view.in_sample(np.concatenate((ranges, small)) if view.on_gpu else ranges),
        optimizer=name[1] if name else "",
        host_ns=host_ns,
        count=view.a_step(len(small)),
        median_ns=float(np.median(durations_ns)),
    )


def _kernels(view: View) -> Int64s:
    """The elementwise kernels that were launched in them."""
    rows = np.flatnonzero(view.events.in_categories("kernel") & view.events.named(_KERNEL.search))
    calls = view.launches(rows)
    return rows[(calls >= 0) & (holding(view.merged(view.updates), view.events.begin_ns[calls]) >= 0)]


def _operators(view: View) -> Int64s:
    """The elementwise operators in them, of a DTensor's the one inside; none where there is a fused one, whose steps
    are counted one by one all the same."""
    merged, operators = view.merged(view.updates), view.events.in_categories("cpu_op")
    fused = np.flatnonzero(operators & view.events.named(_FUSED.match))
    if (holding(merged, view.events.begin_ns[fused]) >= 0).any():
        return np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(operators & view.events.named(_OPERATOR.match))
    begin_ns, end_ns = view.events.begin_ns, view.events.end_ns
    rows = rows[holding(merged, begin_ns[rows]) >= 0]
    rows = rows[np.lexsort((-end_ns[rows], begin_ns[rows]))]
    innermost: Int64s = rows[np.append(begin_ns[rows[1:]] >= end_ns[rows[:-1]], [True])[: len(rows)]]
    return innermost


def find(case: Case) -> Iterator[Finding]:
    """Where that takes LEAST_SHARE of a step or more, and torch has a faster way."""
    seen = case.seen(Updating)
    if not seen or not (case.on_gpu or seen[0].optimizer in HAVE_FUSED):
        return
    cost_ns = case.cost_ns(seen, case.mean_of_ranks(seen, lambda updating: updating.host_ns))
    if cost_ns < LEAST_SHARE * case.step_ns:
        return
    yield _finding(seen, cost_ns, case)


def _finding(seen: list[Updating], cost_ns: float, case: Case) -> Finding:
    what, count = "kernels" if case.on_gpu else "operators", fmean(updating.count for updating in seen)
    name = seen[0].optimizer
    median_us = fmean(updating.median_ns for updating in seen) / 1e3
    host_ns = fmean(updating.host_ns for updating in seen)
    return case.finding(
        "R32",
        f"{name} updates tensor by tensor: {count:,.0f} small {what} a step",
        [
            said(f"half of them take {median_us:.1f} µs or less, so starting them is most of their cost; they keep "
                 f"the host for {milliseconds(host_ns)} a step"),
            case.longest(seen, "compute", "its longest step"),
        ],
        cost_ns,
        Turn(
            advice="update all tensors in a few calls",
            knob=_knob(name, case),
            side_effect="results differ in the last digits"
            + ("" if name in HAVE_FUSED else "; intermediates of all tensors are in memory at once"),
            disproof="the optimizer's range takes as long with it: then memory bandwidth bounds the update",
        ),
    )  # fmt: skip


def _knob(name: str, case: Case) -> str:
    if name in HAVE_FUSED + HAVE_FOREACH:
        knob = f"torch.optim.{name}(model.parameters(), {'fused' if name in HAVE_FUSED else 'foreach'}=True)"
    else:
        knob = f"torch.compile(optimizer.step), or a {name} with foreach or fused kernels"
    if case.framework == "DeepSpeed" and name in ("Adam", "AdamW"):
        knob += f'; or "optimizer": {{"type": "{name}"}} without "torch_adam", which is FusedAdam'
    return knob
