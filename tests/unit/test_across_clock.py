"""Clocks that were planted are found: offsets, drifts, outliers, nodes, groups that only partly overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprof.trace.across.calls import RankWindow, calls_of
from shardprof.trace.across.clock import RankClock, align, as_recorded, by_part, on_reference
from shardprof.trace.across.matching import match
from shardprof.trace.classes import COMM_KINDS
from tests.unit.planted import BEGIN_NS, MS, SECOND, Job, group

P2P = COMM_KINDS.index("p2p")


def clocks_of(windows: Sequence[RankWindow]) -> tuple[RankClock, ...]:
    calls = calls_of(windows)
    return align(calls, match(calls).instance)


def worst_error_ns(job: Job, clocks: Sequence[RankClock]) -> float:
    """How far the same instant on two ranks' clocks is apart in reference time, at worst over the run."""
    true_ns = np.linspace(0, job.steps * 100 * MS, 50)
    offsets, drifts = job.offset_ns or [0] * job.ranks, job.drift_ppm or [0.0] * job.ranks
    on_ranks = [
        BEGIN_NS + np.rint(true_ns + drifts[rank] * 1e-6 * true_ns + offsets[rank]).astype(np.int64)
        for rank in range(job.ranks)
    ]
    seen = [on_reference(clocks, np.full(50, rank), times) for rank, times in enumerate(on_ranks)]
    return float(max(np.abs(times - on_ranks[0]).max() for times in seen))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_planted_clocks_are_recovered_within_twice_the_jitter(data: st.DataObject) -> None:
    ranks = data.draw(st.integers(2, 64))
    jitter_ns = data.draw(st.sampled_from([1_000, 5_000, 20_000, 100_000]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    job = Job(
        ranks=ranks,
        steps=data.draw(st.integers(8, 20)),  # what fewer collectives tell is less exact
        jitter_ns=jitter_ns,
        offset_ns=random.integers(-10 * SECOND, 10 * SECOND, ranks).tolist(),
        drift_ppm=random.uniform(-100, 100, ranks).tolist(),
        is_numbered=data.draw(st.booleans()),
        seed=int(random.integers(2**32)),
    )
    clocks = clocks_of(job.windows())
    assert worst_error_ns(job, clocks) <= 2 * jitter_ns
    residuals = [clock.residual_ns for clock in clocks]
    assert all(residual is not None and 0.2 * jitter_ns < residual < 2 * jitter_ns for residual in residuals)


def test_rank_0_is_the_reference() -> None:
    first, second = clocks_of(Job(ranks=2, offset_ns=[5 * MS, 12 * MS]).windows())
    assert (first.offset_ns, first.drift_ppm, first.residual_ns) == (0, 0.0, 0)
    assert (second.offset_ns, second.drift_ppm) == (7 * MS, pytest.approx(0, abs=1e-3))


def test_outliers_do_not_move_a_clock() -> None:
    job = Job(ranks=8, steps=10, jitter_ns=2_000, offset_ns=[rank * SECOND for rank in range(8)])
    windows = job.windows()
    random = np.random.default_rng(1)
    for i in (3, 5):
        late = random.random(80) < 0.2
        ends = windows[i].collectives.end_ns + late * random.integers(MS, 30 * MS, 80)
        windows[i] = replace(windows[i], collectives=replace(windows[i].collectives, end_ns=ends))
    assert worst_error_ns(job, clocks_of(windows)) <= 4_000


def test_ranks_of_one_node_share_its_clock() -> None:
    machines = ["a", "a", "b", "b"]
    job = Job(ranks=4, jitter_ns=5_000, offset_ns=[0, 0, SECOND, SECOND], drift_ppm=[0, 0, 50, 50], machines=machines)
    clocks = clocks_of(job.windows())
    assert (clocks[0].offset_ns, clocks[1].offset_ns) == (0, 0)
    assert (clocks[2].offset_ns, clocks[2].drift_ppm) == (clocks[3].offset_ns, clocks[3].drift_ppm)
    assert worst_error_ns(job, clocks) <= 10_000


def test_groups_that_overlap_tie_all_clocks() -> None:
    rows = [group(f"row{i}", range(4 * i, 4 * i + 4)) for i in range(4)]
    columns = [group(f"column{i}", range(i, 16, 4)) for i in range(4)]
    random = np.random.default_rng(2)
    job = Job(
        ranks=16, steps=8, jitter_ns=5_000, groups=rows + columns,
        offset_ns=random.integers(-SECOND, SECOND, 16).tolist(), drift_ppm=random.uniform(-100, 100, 16).tolist(),
    )  # fmt: skip
    assert worst_error_ns(job, clocks_of(job.windows())) <= 10_000


def test_a_rank_that_nothing_ties_to_the_others_has_no_clock() -> None:
    job = Job(ranks=4, groups=[group("left", [0, 1]), group("right", [2, 3])], offset_ns=[0, MS, SECOND, SECOND])
    clocks = clocks_of(job.windows())
    assert [clock.offset_ns for clock in clocks] == [0, MS, None, None]
    assert [clock.residual_ns for clock in clocks[2:]] == [None, None]


def test_ranks_apart_from_the_reference_are_compared_with_one_another() -> None:
    job = Job(ranks=4, steps=8, groups=[group("left", [0, 1]), group("right", [2, 3])], offset_ns=[0, MS, 9, SECOND])
    calls = calls_of(job.windows())
    instance = match(calls).instance
    parts = {clock.rank: clock.offset_ns for clock in by_part(align(calls, instance), calls, instance)}
    assert parts[0] == 0
    assert parts[1] == pytest.approx(MS, abs=1000)
    assert (parts[2], parts[3]) == (0, pytest.approx(SECOND, abs=1000))


def test_where_only_sends_tie_a_clock_they_do() -> None:
    """A pipeline of two ranks: one sends what the other receives 50 us later, by turns."""
    windows = Job(ranks=2, steps=10, jitter_ns=5_000, offset_ns=[0, 3 * SECOND], drift_ppm=[0, 80]).windows()
    for rank, window in enumerate(windows):
        turn = np.arange(len(window.collectives)) % 2
        receives = turn != rank
        columns = {"kind": np.full(len(turn), P2P), "source": turn, "destination": 1 - turn}
        ends = window.collectives.end_ns + receives * 50_000
        windows[rank] = replace(window, collectives=replace(window.collectives, end_ns=ends, **columns))
    clocks = clocks_of(windows)
    job = Job(ranks=2, steps=10, offset_ns=[0, 3 * SECOND], drift_ppm=[0, 80])
    assert worst_error_ns(job, clocks) <= 30_000


def test_drift_is_not_made_of_noise() -> None:
    """A millisecond of jitter over 0.2 s would feign hundreds of parts per million."""
    clocks = clocks_of(Job(ranks=8, steps=2, jitter_ns=1_000_000).windows())
    assert max(abs(clock.drift_ppm or 0) for clock in clocks) < 5


def test_clocks_can_be_taken_as_they_are() -> None:
    calls = calls_of(Job(ranks=2, offset_ns=[0, 2 * MS]).windows())
    instance = match(calls).instance
    first, second = as_recorded(align(calls, instance), calls, instance)
    assert (first.offset_ns, second.offset_ns, second.drift_ppm) == (0, 0, 0.0)
    assert second.residual_ns == pytest.approx(1.4826 * MS, rel=0.01), "half of what they are apart, as a deviation"


def test_of_one_rank_there_is_nothing_to_align() -> None:
    (clock,) = clocks_of(Job(ranks=1).windows())
    assert (clock.offset_ns, clock.residual_ns) == (0, None)
    assert align(calls_of([]), np.empty(0, dtype=np.int64)) == ()
