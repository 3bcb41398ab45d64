"""Every recorded step replays: without the delays that nothing explains, within 5 % of what was recorded.

The public traces lie in `shared/traces` beside the checkout, or where SHARDPROF_TRACES says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from shardprof.engine import Int64s
from shardprof.trace.gpu_collectives import comm_rows
from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.replay import StepGraph, step_graph
from shardprof.trace.replay.graph import OFF_HOST
from shardprof.trace.steps import find_steps

CHECKOUT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("SHARDPROF_TRACES") or CHECKOUT.parent / "shared" / "traces")
PUBLIC = sorted(file for file in PLACE.rglob("*.json.gz") if file.parent.name != "stragglers")  # no step in those
RECORDED = sorted((CHECKOUT / "traces").glob("*/ranks/*/trace.json.gz"))


def graphs(file: Path) -> Iterator[tuple[StepGraph, int]]:
    """The graph and the recorded length of each step."""
    trace = read_kineto(file)
    for begin_ns, end_ns in find_steps(trace, ()).windows.tolist():
        yield step_graph(trace, begin_ns, end_ns), end_ns - begin_ns


def name(file: Path) -> str:
    return "/".join(file.parts[-4 if file in RECORDED else -2 :])


def test_there_are_runs_to_replay() -> None:
    assert RECORDED


@pytest.mark.parametrize("file", [*PUBLIC, *RECORDED], ids=name)
def test_every_step_replays(file: Path) -> None:
    steps = list(graphs(file))
    assert steps
    for graph, length_ns in steps:
        assert graph.replayed_ns() == length_ns
        assert graph.without_lags_ns() == pytest.approx(length_ns, rel=0.05)
        assert graph.explained > 0.94


# Traces whose steps do the same in the same order, so that the nodes of one are those of the other.
ALIKE = [
    file
    for file in [*PUBLIC, *RECORDED]
    if name(file)
    in (
        "ddp-nccl-metadata-a100/rank0.json.gz",
        "ns-resolution/rank0.json.gz",
        "fsdp2-vit-2ranks/ranks/00001/trace.json.gz",
    )
]


@pytest.mark.parametrize("file", ALIKE, ids=name)
def test_one_steps_graph_with_anothers_times_gives_the_others_length(file: Path) -> None:
    steps = [(graph, length_ns, *in_lanes(graph)) for graph, length_ns in graphs(file)]
    compared = 0
    for (graph, _, order, work), (other, other_ns, other_order, other_work) in permutations(steps, 2):
        if np.array_equal(work, other_work):
            durations_ns = np.empty_like(graph.duration_ns)
            durations_ns[order] = other.duration_ns[other_order]
            assert graph.replayed_ns(durations_ns) == pytest.approx(other_ns, rel=0.01)
            compared += 1
    assert compared


def in_lanes(graph: StepGraph) -> tuple[Int64s, Int64s]:
    """The nodes by thread and stream, in order; and what they do."""
    stream = np.where(graph.row >= 0, graph.events.thread[graph.row].astype(np.int64), 0)
    lane = np.where(graph.thread >= 0, graph.thread, -2 - stream)
    order = np.argsort(lane, kind="stable")
    what = np.where(graph.row >= 0, graph.events.name[graph.row].astype(np.int64), -1)
    return order, np.stack((lane, what))[:, order]


@pytest.mark.skipif(not (PLACE / "dlrm-8rank-v100").is_dir(), reason=f"the public traces are not in {PLACE}")
def test_ranks_that_need_not_wait_take_as_long_as_the_one_that_came_last() -> None:
    """Eight ranks of one job, of which rank 7 comes last: the steps of the others are up to 60 % longer, by waiting."""
    steps = [next(graphs(PLACE / "dlrm-8rank-v100" / f"worker{rank}.json.gz")) for rank in range(8)]
    nodes = [communication(graph) for graph, _ in steps]
    transfer_ns = np.min([graph.duration_ns[own] for (graph, _), own in zip(steps, nodes, strict=True)], axis=0)
    last_ns = steps[7][1]
    for (graph, _), own in zip(steps, nodes, strict=True):
        durations_ns = graph.duration_ns.copy()
        durations_ns[own] = transfer_ns
        assert graph.replayed_ns(durations_ns) == pytest.approx(last_ns, rel=0.1)
    assert max(length_ns for _, length_ns in steps) > 1.5 * last_ns


def communication(graph: StepGraph) -> Int64s:
    """The nodes of collectives, in the order of time."""
    return np.flatnonzero(np.isin(graph.row, comm_rows(graph.events)) & (graph.thread == OFF_HOST))
