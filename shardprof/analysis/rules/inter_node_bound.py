"""R03: steps wait for communication between nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Collective, Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._moving import Communicating, call_times
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules.tiny_collectives import is_tiny
from shardprof.trace.collectives import UNKNOWN
from shardprof.words import milliseconds, plural

LEAST_SHARE = 0.2
_ACCUMULATE = {
    "FSDP2": "model.set_requires_gradient_sync(False) but for the last of several micro-batches; of hybrid sharding "
    "set_requires_all_reduce(False), which keeps gradients sharded",
    "FSDP1": "with model.no_sync(): but for the last of several micro-batches",
    "DDP": "with model.no_sync(): but for the last of several micro-batches; "
    "model.register_comm_hook(None, default_hooks.bf16_compress_hook)",
    "DeepSpeed": 'a larger "gradient_accumulation_steps", with "zero_optimization": {"stage": 1} reduced once a step',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InGroup(Communicating):
    """Communication in one process group."""

    group: str
    ranks: tuple[int, ...]

    @property
    def subject(self) -> str:
        return f"in {self.group}"


def observe(view: View) -> Iterator[InGroup]:
    """The groups that steps wait in for more than LEAST_SHARE of their time."""
    told = view.activities.collectives.launched_inside(view.windows)
    told = told.where((told.group != UNKNOWN) & (told.row != UNKNOWN))
    for index in np.unique(told.group).tolist():
        calls = told.where(told.group == index)
        calls = calls.where(np.isin(calls.row, view.rows(calls.row)))
        group, rows = told.groups[index], calls.row
        exposed_ns = view.exposed_ns(view.merged(rows))
        if group.ranks is None or exposed_ns <= LEAST_SHARE * view.step_ns:
            continue
        yield InGroup(
            rank=view.rank,
            evidence=(view.at(view.most_exposed(rows), "the most exposed"),),
            rows=view.in_sample(rows),
            exposed_ns=exposed_ns,
            moving_ns=exposed_ns,
            times=call_times(view, calls),
            group=group.description,
            ranks=group.ranks,
        )


def find(case: Case) -> Iterator[Finding]:
    """For the groups of one purpose that span nodes, unless it is the number of their calls that takes the time."""
    tiny = {kind.kind for kind in case.kinds() if is_tiny(kind, case)}
    spanning = [row for row in case.result.collectives if (row.nodes or 1) > 1 and _is_of_data(row, case)]
    for group in dict.fromkeys(row.group for row in spanning):
        rows = [row for row in spanning if row.group == group]
        if not {row.kind for row in rows} <= tiny:
            yield from _finding(group, rows, case)


def _is_of_data(row: Collective, case: Case) -> bool:
    """Whether a group shares or replicates the model, rather than a layer's work or a pipeline."""
    return row.dimension is not None or row.group_size == case.result.source.world_size


def _finding(group: str, rows: Sequence[Collective], case: Case) -> Iterator[Finding]:
    reaching = {row.ranks for row in rows}
    seen = [one for one in case.seen(InGroup) if one.group == group and one.ranks in reaching]
    moving_ns = case.mean_of_ranks(seen, lambda one: one.moving_ns)
    if moving_ns <= LEAST_SHARE * case.step_ns:
        return
    most = max(rows, key=lambda row: row.payload_bytes or 0)
    yield case.finding(
        "R03",
        f"Steps wait for communication between nodes, {moving_ns / case.step_ns:.0%} of their time".replace("%", " %"),
        [
            said(f"{milliseconds(moving_ns)} of what {plural(most.group_size or 0, 'rank')} on {most.nodes} nodes "
                 f"send one another in {group} are exposed{case.beside_waiting(seen)}{_speed(most, case)}"),
            case.longest(seen, most.kind, "one of the longest"),
        ],
        case.cost_ns(seen, moving_ns),
        _turn(most, case),
    )  # fmt: skip


def _speed(row: Collective, case: Case) -> str:
    """How fast it is, and how much faster the same is within nodes, as far as that is known."""
    if row.busbw_gbps is None:
        return ""
    inside = [other.busbw_gbps for other in case.result.collectives if other.nodes == 1 and other.busbw_gbps]
    beside = f"; within a node up to {max(inside):.3g} GB/s" if inside else ""
    return f"; the bus bandwidth of {row.kind.replace('_', '-')} is {row.busbw_gbps:.3g} GB/s{beside}"


def _turn(row: Collective, case: Case) -> Turn:
    nodes, size = row.nodes or 1, row.group_size or 1
    is_whole = size > nodes and size % nodes == 0 and row.dimension != "replicate"
    sharded = _sharded_inside(size // nodes, case) if is_whole else None
    if sharded is None:
        return Turn(
            advice="communicate between nodes less often: once a step of several micro-batches, or in fewer bytes",
            knob=_ACCUMULATE.get(case.framework) or "; ".join(f"{name}: {knob}" for name, knob in _ACCUMULATE.items()),
            side_effect="larger steps, which may need another learning rate; unreduced gradients take memory",
            disproof="two processes of one node reach no higher bandwidth",
        )
    return Turn(
        advice="gather within a node, and only reduce gradients between nodes",
        knob=sharded,
        side_effect=f"each node keeps a whole replica: {nodes} times the memory of what is sharded",
        disproof="two processes of one node reach no higher bandwidth",
    )


def _sharded_inside(ranks: int, case: Case) -> str | None:
    """The knob that keeps shards within a node; None where nothing is gathered that could stay there."""
    if case.setting("zero_stage") == 3 and (case.number("hpz_partition_size") or 1) <= 1:
        return f'"zero_optimization": {{"zero_hpz_partition_size": {ranks}}}, which gathers for backward within a node'
    device, replicas = "cuda" if case.on_gpu else "cpu", (case.result.source.world_size or ranks) // ranks
    mesh = f'init_device_mesh("{device}", ({replicas}, {ranks}), mesh_dim_names=("replicate", "shard"))'
    return {
        "FSDP2": f"fully_shard(block, mesh={mesh}); or fully_shard(block, reshard_after_forward={ranks}), which "
        "gathers for backward within a node",
        "FSDP1": "sharding_strategy=ShardingStrategy.HYBRID_SHARD",
    }.get(case.framework)
