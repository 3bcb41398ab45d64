"""The pieces of a step's classes and phases: every nanosecond belongs to the first class that covers it."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardprof.engine import NOTHING, Intervals, merge, partition_ns
from shardprof.trace.phases import Phases
from shardprof.trace.timeline.class_pieces import Pieces, class_pieces, phase_pieces

END = 40
NAMES = ("a", "b", "c")

spans = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)).filter(lambda span: span[0] < span[1]), max_size=6)
edges = st.lists(st.integers(0, END), min_size=2, max_size=8, unique=True)


def intervals(made: list[tuple[int, int]]) -> Intervals:
    return np.array(made, dtype=np.int64).reshape(-1, 2)


def of_each_ns(pieces: Pieces) -> dict[int, str]:
    """What each nanosecond is; fails where two pieces share one."""
    found: dict[int, str] = {}
    for name, begin_ns, end_ns in pieces:
        assert begin_ns < end_ns
        for time_ns in range(begin_ns, end_ns):
            assert time_ns not in found
            found[time_ns] = name
    return found


@given(st.lists(spans, min_size=3, max_size=3), edges, st.booleans())
def test_each_nanosecond_is_of_the_first_class_that_covers_it(
    made: list[list[tuple[int, int]]],
    cuts: list[int],
    are_apart: bool,  # noqa: FBT001
) -> None:
    ordered = sorted(cuts)
    windows = intervals(list(itertools.pairwise(ordered))[:: 2 if are_apart else 1])
    pieces = class_pieces([merge(intervals(one)) for one in made], NAMES, windows)
    expected = {
        time_ns: name
        for begin_ns, end_ns in windows.tolist()
        for time_ns in range(begin_ns, end_ns)
        for name in [
            next((n for n, one in zip(NAMES, made, strict=True) if any(b <= time_ns < e for b, e in one)), None)
        ]
        if name
    }
    assert of_each_ns(pieces) == expected
    inside = [[b <= begin and end <= e for b, e in windows.tolist()].count(True) for begin, end in pieces.intervals]
    assert inside == [1] * len(pieces.name), "no piece reaches over the end of a step"


@given(st.lists(spans, min_size=3, max_size=3), edges)
def test_they_sum_to_the_partition_of_the_report(made: list[list[tuple[int, int]]], cuts: list[int]) -> None:
    ordered = sorted(cuts)
    windows = intervals(list(itertools.pairwise(ordered)))
    classes = [merge(intervals(one)) for one in made]
    pieces = class_pieces(classes, NAMES, windows)
    for window, expected in zip(windows, partition_ns(classes, windows), strict=True):
        inside = (pieces.intervals[:, 0] >= window[0]) & (pieces.intervals[:, 1] <= window[1])
        lasted = (pieces.intervals[:, 1] - pieces.intervals[:, 0])[inside]
        assert np.bincount(pieces.name[inside], lasted, minlength=3).tolist() == expected[:3].tolist()


def test_phases_of_a_step_touch_and_loading_comes_first() -> None:
    phases = Phases(
        steps=intervals([(0, 100), (100, 200)]),
        backward=intervals([(40, 60), (140, 160)]),
        optimizer=intervals([(70, 80)]),
    )
    assert list(phase_pieces(phases, intervals([(0, 10), (95, 105)]))) == [
        ("data loading", 0, 10),
        ("forward", 10, 40),
        ("backward", 40, 70),
        ("optimizer", 70, 95),
        ("data loading", 95, 100),
        ("data loading", 100, 105),
        ("forward", 105, 140),
        ("backward", 140, 200),
    ]


def test_where_nothing_tells_phases_apart_there_are_none() -> None:
    nothing = Phases(steps=intervals([(0, 100)]), backward=NOTHING, optimizer=NOTHING)
    assert list(phase_pieces(nothing, intervals([(0, 10)]))) == []
