"""Who keeps the others waiting, and why: planted jobs in which a rank does something longer before a collective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprof.analysis.result import Rank, Straggler
from shardprof.analysis.stragglers import stragglers, with_lateness
from shardprof.analysis.together import Together, together
from shardprof.trace.across.calls import RankWindow
from shardprof.trace.across.gaps import DOING, Gaps
from shardprof.trace.across.lateness import _median_of_others
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collectives
from shardprof.trace.steps import StepWindows
from tests.unit.builders import rank as rank_of
from tests.unit.builders import step as step_of
from tests.unit.planted import BEGIN_NS, MS, group

RANKS, STEPS, PER_STEP = 4, 6, 5
STEP_MS = 100


def job(
    more_ms: dict[int, float], what: str = "compute", *, steps: Sequence[int] = range(STEPS), more_work: int = 0,
    hidden: float = 0.0, inherited: int | None = None,
) -> tuple[tuple[Rank, ...], Together]:  # fmt: skip
    """Steps of 100 ms and five all-reduces; some ranks come `more_ms` later to the second of each of the `steps`,
    because of `what`. The share `hidden` of the waiting is under compute. Rank `inherited` is late, but did nothing."""
    windows = []
    for rank in range(RANKS):
        begin, doing, work = [], [], []
        for step in range(STEPS):
            for number in range(PER_STEP):
                late_ms = more_ms.get(rank, 0.0) if number == 1 and step in steps else 0.0
                of_gap = dict.fromkeys(DOING, 0)
                of_gap["compute"] = 10 * MS
                of_gap[what] += round(late_ms * MS)
                slot_ns = (step * STEP_MS + number * 18) * MS
                begin.append(slot_ns + round(late_ms * MS) + (2 * MS if rank == inherited else 0))
                doing.append([of_gap[name] for name in DOING])
                work.append(40 + (more_work if late_ms else 0))
        windows.append(_window(rank, begin, doing, work, max(more_ms.values(), default=0), hidden))
    ranks = tuple(rank_of(number, *(step_of(s, compute=STEP_MS) for s in range(STEPS))) for number in range(RANKS))
    return ranks, together(windows, "traces")


def _window(
    rank: int, begin: list[int], doing: list[list[int]], work: list[int], latest_ms: float, hidden: float
) -> RankWindow:
    count = len(begin)
    begin_ns = np.array(begin, dtype=np.int64)
    slots = np.arange(count) // PER_STEP * STEP_MS * MS + np.arange(count) % PER_STEP * 18 * MS
    end_ns = slots + np.where(np.arange(count) % PER_STEP == 1, round(latest_ms * MS), 0) + 3 * MS
    unknown = np.full(count, UNKNOWN, dtype=np.int64)
    bounds = np.arange(STEPS + 1, dtype=np.int64) * STEP_MS * MS
    return RankWindow(
        rank=rank,
        clock=None,
        base_ns=BEGIN_NS,
        steps=StepWindows(
            source="ProfilerStep",
            numbers=tuple(range(STEPS)),
            windows=np.stack((bounds[:-1], bounds[1:]), axis=1),
            confidence=1.0,
        ),
        collectives=Collectives(
            kind=np.full(count, COMM_KINDS.index("all_reduce"), dtype=np.int64),
            launched_ns=slots,
            begin_ns=begin_ns,
            end_ns=end_ns,
            payload_bytes=np.full(count, 1000),
            wire_bytes=unknown,
            group=np.zeros(count, dtype=np.int64),
            sequence=unknown,
            source=unknown,
            destination=unknown,
            row=unknown,
            groups=(group("0", range(RANKS)),),
        ),
        gaps=Gaps(
            doing_ns=np.array(doing, dtype=np.int64),
            work=np.array(work, dtype=np.int64),
            exposed_ns=np.rint((end_ns - begin_ns) * (1 - hidden)).astype(np.int64),
        ),
    )


def named(ranks: tuple[Rank, ...], all_ranks: Together) -> tuple[Straggler, ...]:
    return stragglers(ranks, all_ranks.calls, all_ranks.lateness)


@pytest.mark.parametrize(
    ("what", "more_work", "cause"),
    [
        ("compute", 0, "compute"),
        ("compute", 40, "imbalance"),
        ("data_loading", 0, "data_loading"),
        ("host", 0, "launch"),
        ("copies", 0, "unknown"),
    ],
)
def test_a_rank_that_is_late_in_every_step_is_named_with_its_cause(what: str, more_work: int, cause: str) -> None:
    (found,) = named(*job({2: 7}, what, more_work=more_work))
    assert (found.rank, found.cause, found.steps, found.of_steps) == (2, cause, 6, 6)
    assert found.cost_ns_per_step == pytest.approx(7 * MS, rel=0.01)
    first, worst = found.evidence
    assert first.message.startswith("comes last to 6 of its 30 collectives: before them it ")
    assert (worst.rank, worst.step) == (2, 0)
    assert worst.begin_ns is not None
    assert worst.end_ns == BEGIN_NS + 25 * MS


def test_every_step_says_who_waited_and_for_whom() -> None:
    ranks, all_ranks = job({2: 7})
    told = with_lateness(ranks, all_ranks.calls, all_ranks.lateness, all_ranks.wait_ns)
    assert [rank.steps[3].late_ns for rank in told] == [0, 0, 7 * MS, 0]
    assert [rank.steps[3].wait_ns for rank in told] == [7 * MS, 7 * MS, 0, 7 * MS]


def test_nobody_is_named_for_little_or_for_seldom() -> None:
    assert named(*job({2: 0.5})) == (), "half a percent of a step"
    assert named(*job({2: 30}, steps=[1, 4])) == (), "in two steps of six"


def test_who_inherits_a_delay_is_not_blamed_for_it() -> None:
    assert named(*job({}, inherited=1)) == ()


def test_ranks_of_a_slow_node_are_named_though_they_meet_one_another_before() -> None:
    """Ranks 0, 1 and 2, 3 meet in pairs, then 0, 2 and 1, 3: those of the second node compute 5 ms longer, together."""
    pairs = [group("inside0", [0, 1]), group("inside1", [2, 3]), group("across0", [0, 2]), group("across1", [1, 3])]
    windows = []
    for rank in range(RANKS):
        more = 5 * MS if rank >= 2 else 0
        base = _window(rank, [0] * 2 * STEPS, [[0] * len(DOING)] * 2 * STEPS, [40] * 2 * STEPS, 0, 0.0)
        step_ns = np.arange(STEPS) * STEP_MS * MS
        begin_ns = np.stack((step_ns + 20 * MS + more, step_ns + 22 * MS + more), axis=1).reshape(-1)
        end_ns = np.stack((step_ns + 21 * MS + more, step_ns + 28 * MS), axis=1).reshape(-1)
        doing = np.zeros((2 * STEPS, len(DOING)), dtype=np.int64)
        doing[0::2, DOING.index("compute")] = 20 * MS + more
        doing[1::2, DOING.index("compute")] = 1 * MS
        of_group = np.tile([rank // 2, 2 + rank % 2], STEPS)
        calls = replace(
            base.collectives, begin_ns=begin_ns, end_ns=end_ns, launched_ns=begin_ns - MS, group=of_group,
            groups=tuple(pairs),
        )  # fmt: skip
        gaps = replace(base.gaps, doing_ns=doing, exposed_ns=end_ns - begin_ns)
        windows.append(replace(base, collectives=calls, gaps=gaps))
    ranks = tuple(rank_of(number, *(step_of(s, compute=STEP_MS) for s in range(STEPS))) for number in range(RANKS))
    found = named(ranks, together(windows, "traces"))
    assert {(late.rank, late.cause) for late in found} == {(2, "compute"), (3, "compute")}
    assert all(late.cost_ns_per_step == pytest.approx(5 * MS, rel=0.01) for late in found)


def test_waiting_under_compute_costs_nothing() -> None:
    assert named(*job({2: 7}, hidden=1.0)) == ()
    (found,) = named(*job({2: 7}, hidden=0.5))
    assert found.cost_ns_per_step == pytest.approx(3.5 * MS, rel=0.01)


def test_several_late_ranks_are_named_the_most_expensive_first() -> None:
    assert [(found.rank, found.cost_ns_per_step) for found in named(*job({1: 4, 3: 9}))] == [
        (3, pytest.approx(9 * MS, rel=0.01)),
        (1, pytest.approx(4 * MS, rel=0.01)),
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=9))
def test_the_median_of_the_others(row: list[int]) -> None:
    expected = [median(row[:i] + row[i + 1 :]) for i in range(len(row))]
    assert _median_of_others(np.array([row]))[0].tolist() == expected


def test_one_rank_keeps_nobody_waiting() -> None:
    ranks, all_ranks = job({2: 7})
    alone = tuple(replace(rank) for rank in ranks[2:3])
    assert stragglers(alone, all_ranks.calls, all_ranks.lateness) == ()
