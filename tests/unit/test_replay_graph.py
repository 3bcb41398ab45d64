"""A step's graph against all its paths written out: short, slow and obviously right."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardprof.engine import Int64s
from shardprof.trace.events import Events
from shardprof.trace.replay.draft import START, Draft
from shardprof.trace.replay.graph import OFF_HOST, StepGraph

NO_EVENTS = Events(
    **{name: np.empty(0, dtype=np.int64) for name in ("begin_ns", "end_ns", "correlation", "external_id", "stream")},
    **{name: np.empty(0, dtype=np.uint32) for name in ("name", "category", "thread", "shape", "detail_row", "detail")},
    detail_sequence=np.empty(0, dtype=np.int64), names=(), categories=(), threads=(), details=(),
)  # fmt: skip

Nodes = list[tuple[int, int]]  # begin, end
Edges = list[tuple[int, int, int]]  # source, target, usual delay


@st.composite
def drawings(draw: st.DrawFn) -> tuple[Nodes, Edges]:
    """Up to 8 nodes in the order of their begins, the first being the start, and edges from earlier to later ones."""
    gaps = draw(st.lists(st.integers(1, 30), min_size=1, max_size=7))
    nodes = [(0, 0)] + [(begin, begin + draw(st.integers(0, 40))) for begin in accumulate(gaps)]
    pairs = st.tuples(st.integers(0, len(nodes) - 1), st.integers(0, len(nodes) - 1)).filter(lambda p: p[0] < p[1])
    edges = draw(st.lists(st.tuples(pairs, st.integers(0, 20)), max_size=16))
    return nodes, [(source, target, delay) for (source, target), delay in edges]


def drawn(nodes: Nodes, edges: Edges) -> StepGraph:
    draft = Draft(0)
    for row, (begin, end) in enumerate(nodes[1:], start=1):
        draft.add(begin, end, row, OFF_HOST)
    for source, target, delay in edges:
        draft.link(source, target, delay)
    return draft.graph(NO_EVENTS, len(nodes) - 1)


def by_all_paths(nodes: Nodes, edges: Edges, durations: list[int]) -> int:
    """The longest of all paths from the start to the last node, each with the recorded lags of its nodes."""
    ways: dict[int, list[tuple[int, int]]] = {i: [] for i in range(len(nodes))}
    for source, target, delay in edges:
        ways[target].append((source, min(delay, nodes[target][0] - nodes[source][1])))
    for i in range(1, len(nodes)):
        ways[i] = ways[i] or [(START, 0)]
    lag = [0] + [
        begin - max(nodes[source][1] + delay for source, delay in ways[i])
        for i, (begin, _) in enumerate(nodes[1:], start=1)
    ]

    def lengths(node: int) -> list[int]:
        own = durations[node] + lag[node]
        return [length + delay + own for source, delay in ways[node] for length in lengths(source)] if node else [0]

    return max(lengths(len(nodes) - 1))


def durations_of(graph: StepGraph, changed: dict[int, int]) -> Int64s:
    durations = graph.duration_ns.copy()
    for node, duration in changed.items():
        durations[node] = duration
    return durations


@given(drawings())
def test_a_step_replays_to_the_nanosecond(drawing: tuple[Nodes, Edges]) -> None:
    nodes, edges = drawing
    graph = drawn(nodes, edges)
    assert graph.replayed_ns() == nodes[-1][1]
    assert 0 <= graph.explained <= 1
    assert (graph.lag_ns >= 0).all()


@given(drawings(), st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_other_durations_give_the_longest_path(drawing: tuple[Nodes, Edges], durations: list[int]) -> None:
    nodes, edges = drawing
    durations = [0, *durations][: len(nodes)]
    assert drawn(nodes, edges).replayed_ns(np.array(durations)) == by_all_paths(nodes, edges, durations)


@given(drawings())
def test_without_lags_a_step_misses_at_most_what_is_not_explained(drawing: tuple[Nodes, Edges]) -> None:
    graph = drawn(*drawing)
    recorded, modelled = graph.replayed_ns(), graph.without_lags_ns()
    assert recorded * graph.explained - 1 <= modelled <= recorded


@given(drawings())
def test_a_longer_node_on_the_critical_path_makes_the_step_longer(drawing: tuple[Nodes, Edges]) -> None:
    graph = drawn(*drawing)
    for node in graph.critical_rows().tolist():
        longer = graph.replayed_ns(durations_of(graph, {node: int(graph.duration_ns[node]) + 5}))
        assert longer == graph.replayed_ns() + 5


@given(drawings(), st.sets(st.integers(1, 7)))
def test_without_is_the_replay_with_nodes_of_no_length(drawing: tuple[Nodes, Edges], removed: set[int]) -> None:
    graph = drawn(*drawing)
    removed = {row for row in removed if row < len(drawing[0])}
    emptied = graph.replayed_ns(durations_of(graph, dict.fromkeys(removed, 0)))
    assert graph.without(np.array(sorted(removed), dtype=np.int64)) == emptied <= graph.replayed_ns()


def test_an_edge_back_in_time_is_none() -> None:
    graph = drawn([(0, 0), (10, 20), (30, 40)], [(2, 1, 0), (1, 2, 0)])
    assert (graph.replayed_ns(), graph.without(np.array([1]))) == (40, 30)


def test_a_hundred_thousand_nodes_replay() -> None:
    count = 100_000
    draft = Draft(0)
    times = np.arange(1, count + 1, dtype=np.int64)
    nodes = draft.add(times, times + 1, times, OFF_HOST)
    draft.link(START, nodes[0])
    draft.link(nodes[:-1], nodes[1:])
    draft.link(nodes[:-2], nodes[2:])
    graph = draft.graph(NO_EVENTS, int(nodes[-1]))
    assert graph.replayed_ns() == count + 1
    assert graph.without(times[::2]) == count // 2 + 1
