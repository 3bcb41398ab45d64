"""What a timeline shows where a viewer could not hold all: rather all ranks without operators than a few with them."""

from __future__ import annotations

import numpy as np
import pytest

from shardprof.errors import ShardprofError
from shardprof.trace.run import RankTraces
from shardprof.trace.steps import StepWindows
from shardprof.trace.timeline.choice import Choice, check, choose, left_out
from shardprof.trace.timeline.overview import RankOverview, Window

STEPS = 10


def overview(rank: int, *, events: int = 1000, slim: int = 100) -> RankOverview:
    """A rank with one trace of ten steps, 100 to 109, of 10 ns each."""
    begins = np.arange(STEPS, dtype=np.int64) * 10
    windows = np.stack((begins, begins + 10), axis=1)
    steps = StepWindows(source="ProfilerStep", numbers=tuple(range(100, 110)), windows=windows, confidence=1.0)
    window = Window(
        file=None, base_ns=0, first_ns=0, events=events, slim_events=slim, steps=steps, classes=None, phases=None,
        tracks={}, calls=None, call_tracks=(),
    )  # type: ignore[arg-type]  # fmt: skip
    told = RankTraces(rank=rank, host=None, record=None, steps=(), traces=())
    return RankOverview(told=told, windows=(window,), stacks=None, role=None)


RANKS = [overview(rank) for rank in range(8)]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (8000, Choice()),
        (7999, Choice(slim=True)),
        (800, Choice(slim=True)),
        (799, Choice(slim=True, ranks=frozenset({5, 2, 0, 1, 3, 4, 6}))),
        (300, Choice(slim=True, ranks=frozenset({5, 2, 0}))),
        (100, Choice(slim=True, ranks=frozenset({5}))),
        (35, Choice(slim=True, ranks=frozenset({5}), steps=range(107, 110))),
        (20, Choice(slim=True, ranks=frozenset({5}), steps=range(108, 110))),
        (0, Choice(slim=True, ranks=frozenset({5}), steps=range(108, 110))),
    ],
)
def test_as_much_is_shown_as_fits(most: int, expected: Choice) -> None:
    assert choose(RANKS, first_ranks=(5, 2, 99), most=most) == expected


def test_what_is_left_out_is_said() -> None:
    assert left_out(Choice(), RANKS) == []
    assert left_out(Choice(slim=True, ranks=frozenset({5}), steps=range(107, 110)), RANKS) == [
        "operators and calls on the CPU (slim)",
        "the events of ranks 0-4, 6-7, but not their steps",
        "the events outside of steps 107-109",
    ]
    assert left_out(Choice(steps=range(3, 4)), RANKS) == ["the events outside of step 3"]
    assert left_out(Choice(slim=True), [overview(0, events=5, slim=5)]) == [], "there was nothing to leave out"


def test_the_time_of_chosen_steps_is_one_stretch_where_they_touch() -> None:
    (window,) = RANKS[0].windows
    assert Choice().windows(window) is None
    shown = Choice(steps=range(107, 200)).windows(window)
    assert shown is not None
    assert shown.tolist() == [[70, 100]]
    nothing = Choice(steps=range(0, 3)).windows(window)
    assert nothing is not None
    assert nothing.tolist() == []


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (Choice(ranks=frozenset({9})), "no rank 9; there are 0-7"),
        (Choice(steps=range(0, 5)), "no captured step 0-4; captured are 100-109"),
    ],
)
def test_what_is_not_there_cannot_be_chosen(choice: Choice, why: str) -> None:
    with pytest.raises(ShardprofError, match=why):
        check(choice, RANKS)
    check(Choice(ranks=frozenset({7, 9}), steps=range(105, 300)), RANKS)
