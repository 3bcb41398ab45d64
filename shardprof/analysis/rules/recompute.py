"""R31: activation checkpointing runs the forward again inside backward."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.cpu_activities import is_operator
from shardprof.words import milliseconds

LEAST_SHARE = 0.1
FREE_BELOW = 0.6

# Autograd's own nodes, whose saved tensors non-reentrant checkpointing computes when they are asked for, and the node
# of the reentrant kind. Nodes of other Python functions may well compute such things themselves.
_NODE = re.compile(r"^autograd::engine::evaluate_function: (CheckpointFunctionBackward|\w+Backward\d+)$")
# What no derivative is made of.
_FORWARD = re.compile(
    r"^aten::(linear|layer_norm|rms_norm|group_norm|batch_norm|gelu|silu|relu_?|softmax|conv[123]d|embedding|dropout"
    r"|scaled_dot_product_attention)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputing(Observation):
    """Forward work inside backward, which computes for `time_ns` of a step, in `places` a step. `memory` is the share
    of the device's that was reserved at most, None where that is not known."""

    time_ns: float
    places: float
    memory: float | None


def observe(view: View) -> Iterator[Recomputing]:
    """What nodes of autograd compute up to their last operator of a forward."""
    places = _places(view)
    if not places:
        return
    operators, computing = _work(view, places)
    time_ns = view.a_step_ns(view.merged(computing))
    if time_ns <= LEAST_SHARE * view.step_ns:
        return
    spans = np.concatenate(list(places.values()))
    begin_ns, end_ns = spans[(spans[:, 1] - spans[:, 0]).argmax()].tolist()
    peak_bytes, device_bytes = view.peak_bytes, view.device_bytes
    yield Recomputing(
        rank=view.rank,
        evidence=(view.between(begin_ns, end_ns, "it takes longest here"),),
        rows=view.in_sample(np.union1d(operators, computing)),
        time_ns=time_ns,
        places=view.a_step(len(spans)),
        memory=peak_bytes / device_bytes if peak_bytes and device_bytes else None,
    )


def _places(view: View) -> dict[int, Intervals]:
    """From the begin of each node that holds operators of a forward to the end of the last of them, by thread."""
    events = view.events
    again = view.rows(events.in_categories("cpu_op") & events.named(_FORWARD.match))
    nodes = np.flatnonzero(events.named(_NODE.match))
    nodes = nodes[np.argsort(events.begin_ns[nodes], kind="stable")]
    places = {}
    for thread in np.unique(events.thread[nodes]).tolist():
        spans = events.intervals(nodes[events.thread[nodes] == thread])
        rows = again[events.thread[again] == thread]
        of = np.searchsorted(spans[:, 0], events.begin_ns[rows], side="right") - 1
        is_inside = (of >= 0) & (events.end_ns[rows] <= spans[of, 1])
        if is_inside.any():
            found = np.stack((spans[of[is_inside], 0], events.end_ns[rows[is_inside]]), axis=1)
            places[thread] = merge(found)
    return places


def _work(view: View, places: Mapping[int, Intervals]) -> tuple[Int64s, Int64s]:
    """The operators in these places, and what computes in them: on a GPU the kernels that they launch."""
    events = view.events
    inside = np.zeros(len(events), dtype=np.bool_)
    for thread, spans in places.items():
        inside |= (events.thread == thread) & (holding(spans, events.begin_ns) >= 0)
    operators = np.flatnonzero(inside & events.in_categories("cpu_op") & events.named(is_operator))
    if not view.on_gpu:
        return operators, operators
    kernels = np.setdiff1d(np.flatnonzero(events.in_categories("kernel")), view.activities.collectives.row)
    calls = view.launches(kernels)
    return operators, kernels[(calls >= 0) & inside[calls]]


def find(case: Case) -> Iterator[Finding]:
    """Where that takes more than LEAST_SHARE of a step, unless memory is known to be short."""
    seen = case.seen(Recomputing)
    known = [one.memory for one in seen if one.memory is not None]
    if not seen or max(known, default=0) >= FREE_BELOW:
        return
    time_ns = case.mean_of_ranks(seen, lambda one: one.time_ns)
    places = case.mean_of_ranks(seen, lambda one: one.places)
    yield case.finding(
        "R31",
        f"Backward computes activations anew, {time_ns / case.step_ns:.0%} of a step".replace("%", " %"),
        [
            said(f"at {places:,.0f} places a step autograd runs operators of the forward, which compute for "
                 f"{milliseconds(time_ns)}: activation checkpointing"),
            said(_memory(known, case)),
            case.longest(seen, "compute", "it takes longest here"),
        ],
        case.cost_ns(seen, time_ns),
        Turn(
            advice="keep what takes long to compute, or the activations of some blocks, as far as memory is free",
            knob="torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False, context_fn=functools.partial("
            "create_selective_checkpoint_contexts, [torch.ops.aten.mm.default, torch.ops.aten.addmm.default])); "
            "or checkpoint every second block only",
            side_effect="memory for what is kept, until backward has used it",
            disproof="the step without checkpointing and with half of the batch takes more than half as long",
        ),
    )  # fmt: skip


def _memory(known: Sequence[float], case: Case) -> str:
    if known:
        return f"{1 - max(known):.0%} of the device's memory was never reserved".replace("%", " %")
    return "whether memory is free for them " + ("was not recorded" if case.on_gpu else "is not told of a CPU")
