"""The engine's sets of time against sets of integers: short, slow and obviously right."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardprof import engine
from shardprof.engine import Intervals

SPANS = st.tuples(st.integers(-40, 40), st.integers(0, 20)).map(lambda span: (span[0], span[0] + span[1]))
LISTS = st.lists(SPANS, max_size=12)
LARGE = st.tuples(st.integers(-(2**61), 2**61), st.integers(0, 2**60)).map(lambda span: (span[0], span[0] + span[1]))


def intervals(spans: list[tuple[int, int]]) -> Intervals:
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def instants(spans: Intervals | list[tuple[int, int]]) -> set[int]:
    return {t for begin, end in np.asarray(spans).tolist() for t in range(begin, end)}


def is_merged(spans: Intervals) -> bool:
    flat = spans.ravel().tolist()
    return all(earlier < later for earlier, later in pairwise(flat))


@given(LISTS)
def test_merge_is_the_union(spans: list[tuple[int, int]]) -> None:
    merged = engine.merge(intervals(spans))
    assert is_merged(merged)
    assert instants(merged) == instants(spans)
    assert engine.length_ns(merged) == len(instants(spans))


@given(st.lists(LISTS, max_size=4))
def test_union_is_the_time_in_any(lists: list[list[tuple[int, int]]]) -> None:
    united = engine.union(*(intervals(spans) for spans in lists))
    assert is_merged(united)
    assert instants(united) == set().union(*(instants(spans) for spans in lists))


@given(LISTS, LISTS)
def test_intersect_is_the_time_in_both(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    both = engine.intersect(engine.merge(intervals(a)), engine.merge(intervals(b)))
    assert is_merged(both)
    assert instants(both) == instants(a) & instants(b)


@given(LISTS, LISTS)
def test_covered_counts_within_each_window(spans: list[tuple[int, int]], windows: list[tuple[int, int]]) -> None:
    covered = engine.covered_ns(engine.merge(intervals(spans)), intervals(windows))
    assert covered.tolist() == [len(instants(spans) & instants([window])) for window in windows]


@given(st.lists(LISTS, max_size=5), LISTS)
def test_partition_gives_an_instant_to_the_first_class(
    classes: list[list[tuple[int, int]]], windows: list[tuple[int, int]]
) -> None:
    cells = engine.partition_ns([engine.merge(intervals(spans)) for spans in classes], intervals(windows))
    assert cells.shape == (len(windows), len(classes) + 1)
    for window, row in zip(windows, cells.tolist(), strict=True):
        left = instants([window])
        for spans, cell in zip(classes, row, strict=False):
            assert cell == len(left & instants(spans))
            left -= instants(spans)
        assert row[-1] == len(left)


@given(st.lists(st.lists(LARGE, max_size=6), max_size=12), st.lists(LARGE, max_size=4))
def test_a_partition_sums_to_its_window_whatever_the_size(
    classes: list[list[tuple[int, int]]], windows: list[tuple[int, int]]
) -> None:
    cells = engine.partition_ns([engine.merge(intervals(spans)) for spans in classes], intervals(windows))
    assert cells.sum(axis=1).tolist() == [end - begin for begin, end in windows]
    assert not (cells < 0).any()


def test_rows_that_are_not_contiguous_are_taken() -> None:
    columns = np.array([[5, 1], [6, 3]], dtype=np.int64)
    assert engine.merge(columns.T).tolist() == [[1, 3], [5, 6]]
    assert engine.covered_ns(engine.merge(columns.T), columns.T[::-1]).tolist() == [2, 1]
