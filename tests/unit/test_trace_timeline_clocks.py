"""Clocks of decades apart on one timeline: brought near, those that belong together alike."""

from __future__ import annotations

from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.timeline.clocks import brought_near

DAY_NS = 24 * 3600 * 10**9


def clock(rank: int, offset_ns: int) -> RankClock:
    return RankClock(rank=rank, offset_ns=offset_ns, drift_ppm=0.0, t0_ns=0, residual_ns=1)


def test_clocks_that_are_near_stay_as_they_are() -> None:
    tied = {1: clock(1, 5)}
    assert brought_near(tied, {0: 100, 1: 200, 2: 100 + DAY_NS // 2}) == (tied, [])


def test_ranks_that_are_far_begin_with_the_first_one_and_stay_together() -> None:
    """Ranks 2 and 3 are tied to one another, and 9 ns apart: so they are still."""
    begins_ns = {0: 50 * DAY_NS, 1: 50 * DAY_NS + 7, 2: 1_000, 3: 1_029}
    clocks, apart = brought_near({3: clock(3, 20)}, begins_ns)
    assert apart == [2, 3]
    assert 0 not in clocks
    assert 1 not in clocks
    assert clocks[2].on_reference(1_000) == 50 * DAY_NS
    assert clocks[3].on_reference(1_029) == 50 * DAY_NS + 9
