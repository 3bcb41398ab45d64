"""Calls of different ranks are one collective, whatever their windows miss: checked against what was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprof.trace.across.calls import RankWindow, calls_of
from shardprof.trace.across.gaps import Gaps
from shardprof.trace.across.matching import Matched, match
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.steps import StepWindows
from tests.unit.planted import SECOND, Job, group

P2P = COMM_KINDS.index("p2p")


def some(window: RankWindow, rows: np.ndarray) -> Gaps:
    """The gaps of some of a window's calls."""
    gaps = window.gaps
    return Gaps(doing_ns=gaps.doing_ns[rows], work=gaps.work[rows], exposed_ns=gaps.exposed_ns[rows])


class Seen:
    """A job's windows of which some calls are kept only."""

    def __init__(self, job: Job) -> None:
        self.windows = job.windows()
        self.truth = list(job.truth)

    def keep(self, rank: int, rows: slice | np.ndarray) -> Seen:
        """Of a rank only these calls."""
        window = self.windows[rank]
        numbers = np.arange(len(window.collectives))[rows]
        self.windows[rank] = replace(window, collectives=window.collectives.where(numbers), gaps=some(window, numbers))
        self.truth[rank] = self.truth[rank][numbers]
        return self

    def without_step_numbers(self, source: str = "periodicity") -> Seen:
        """As where steps are what was found to repeat, numbered from 0 on each rank."""
        for rank, window in enumerate(self.windows):
            launched = window.collectives.launched_ns
            bounds = window.steps.windows
            held = bounds[(bounds[:, 1] > launched.min()) & (bounds[:, 0] <= launched.max())]
            steps = StepWindows(source=source, numbers=tuple(range(len(held))), windows=held, confidence=0.9)
            self.windows[rank] = replace(window, steps=steps)
        return self

    def check(self, unmatched: int = 0) -> Matched:
        """What is matched is right, and no more than `unmatched` calls that others have too are not."""
        calls = calls_of(self.windows)
        found = match(calls)
        truth = np.concatenate(self.truth)
        assert len(truth) == len(found.instance)
        pairs = {(int(i), int(t)) for i, t in zip(found.instance, truth, strict=True) if i != UNKNOWN}
        assert len({i for i, _ in pairs}) == len(pairs), "two collectives were taken for one"
        values, counts = np.unique(truth, return_counts=True)
        shared = np.isin(truth, values[counts > 1])
        instances, sizes = np.unique(found.instance[found.instance != UNKNOWN], return_counts=True)
        size = dict(zip(instances.tolist(), sizes.tolist(), strict=True))
        whole = dict(zip(values.tolist(), counts.tolist(), strict=True))
        missed = sum(
            size.get(int(i), 0) != whole[int(t)] for i, t in zip(found.instance[shared], truth[shared], strict=True)
        )
        assert missed <= unmatched
        return found


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_windows_that_begin_and_end_anywhere_are_not_shifted(data: st.DataObject) -> None:
    ranks = data.draw(st.integers(2, 6))
    sizes = data.draw(st.sampled_from([(), [1 << 20, 1 << 20, 5 << 20, 1 << 20, 1 << 20, 7 << 20, 1, 1]]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    job = Job(
        ranks=ranks, jitter_ns=5_000, size_bytes=sizes, is_numbered=data.draw(st.booleans()),
        offset_ns=random.integers(-10 * SECOND, 10 * SECOND, ranks).tolist(),
        drift_ppm=random.uniform(-100, 100, ranks).tolist(), seed=int(random.integers(2**32)),
    )  # fmt: skip
    seen = Seen(job)
    for rank in range(ranks):
        first, last = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
        seen.keep(rank, slice(first, 40 - last))
    if data.draw(st.booleans()):
        seen.without_step_numbers()
    seen.check()


@pytest.mark.parametrize("first", [1, 3, 8, 11])
def test_without_step_numbers_ends_tell_by_how_many_steps_a_window_is_late(first: int) -> None:
    job = Job(ranks=3, steps=6, jitter_ns=5_000, offset_ns=[0, 3 * SECOND, -SECOND])
    Seen(job).keep(1, slice(first, None)).without_step_numbers("whole trace").check()


def test_a_perfectly_even_job_is_matched_by_its_steps() -> None:
    """Neither sizes nor ends tell anything: every collective comes 12 ms after the one before."""
    job = Job(ranks=4, steps=4, evenly=True, offset_ns=[0, 12_000_000, -24_000_000, 5 * SECOND])
    Seen(job).keep(2, slice(0, 30)).check()


def test_other_steps_were_captured_on_another_rank() -> None:
    job = Job(ranks=3, steps=8, jitter_ns=5_000, offset_ns=[0, SECOND, 2 * SECOND])
    Seen(job).keep(1, slice(16, None)).keep(2, slice(0, 48)).check()


def test_windows_that_share_few_steps_are_matched_where_they_do() -> None:
    seen = Seen(Job(ranks=2, steps=10, jitter_ns=2_000, size_bytes=[1] * 8))
    per_step = len(seen.windows[0].collectives) // 10
    seen.keep(0, slice(None, 6 * per_step)).keep(1, slice(4 * per_step, None)).check()


def test_windows_that_share_no_step_are_not_matched() -> None:
    seen = Seen(Job(ranks=2, steps=10, jitter_ns=2_000, size_bytes=[1] * 8))
    per_step = len(seen.windows[0].collectives) // 10
    seen.keep(0, slice(None, 5 * per_step)).keep(1, slice(5 * per_step, None))
    calls = calls_of(seen.windows)
    instance = match(calls).instance
    assert not set(instance[calls.rank == 0].tolist()) & set(instance[calls.rank == 1].tolist()) - {UNKNOWN}


def test_calls_lost_on_the_way_cost_themselves() -> None:
    job = Job(ranks=3, jitter_ns=5_000, size_bytes=[1, 2, 3, 4, 5, 6, 7, 8])
    kept = np.delete(np.arange(40), [13, 14, 27])
    found = Seen(job).keep(1, kept).check()
    assert found.unmatched == 0


def test_numbers_are_used_where_all_have_them() -> None:
    found = Seen(Job(ranks=2, is_numbered=True)).check()
    assert found.by_number == 80
    assert Seen(Job(ranks=2)).check().by_number == 0


def test_numbers_that_cannot_be_true_are_not_used() -> None:
    job = Job(ranks=2, is_numbered=True, size_bytes=[1, 2, 3, 4, 5, 6, 7, 8])
    seen = Seen(job)
    wrong = seen.windows[1].collectives.sequence + 3
    seen.windows[1] = replace(seen.windows[1], collectives=replace(seen.windows[1].collectives, sequence=wrong))
    assert seen.check().by_number == 0


def test_calls_of_one_launch_share_a_number() -> None:
    seen = Seen(Job(ranks=2, is_numbered=True))
    for rank, window in enumerate(seen.windows):
        pairs = window.collectives.sequence // 2
        seen.windows[rank] = replace(window, collectives=replace(window.collectives, sequence=pairs))
    assert seen.check().by_number == 80


def test_groups_are_matched_apart() -> None:
    job = Job(ranks=4, groups=[group("0", range(4)), group("1", [0, 1]), group("2", [2, 3])], jitter_ns=1_000)
    Seen(job).keep(3, slice(2, None)).check()


def test_what_a_rank_alone_has_is_counted() -> None:
    job = Job(ranks=2, size_bytes=[1, 2, 3, 4, 5, 6, 7, 8])
    assert Seen(job).keep(1, slice(3, None)).check().unmatched == 3
    assert Seen(Job(ranks=1)).check().unmatched == 0, "no other rank was seen at all"


def test_a_send_meets_its_receive() -> None:
    """Rank 0 sends to 1 and receives from 1 in turns; 2 sends to 1."""
    base = Seen(Job(ranks=3)).windows
    peers = {0: [(0, 1), (1, 0), (0, 1)], 1: [(2, 1), (0, 1), (1, 0), (0, 1)], 2: [(2, 1)]}
    windows = []
    for rank, pairs in peers.items():
        calls = base[rank].collectives.where(np.arange(len(pairs)))
        columns = np.array(pairs)
        kind = np.full(len(pairs), P2P)
        calls = replace(calls, kind=kind, source=columns[:, 0], destination=columns[:, 1])
        windows.append(replace(base[rank], collectives=calls, gaps=some(base[rank], np.arange(len(pairs)))))
    found = match(calls_of(windows)).instance.tolist()
    assert found[:3] == found[4:7]
    assert found[3] == found[7]
    assert len(set(found)) == 4


def test_traces_without_any_metadata_are_matched_by_kind_and_order() -> None:
    seen = Seen(Job(ranks=4, jitter_ns=5_000))
    for rank, window in enumerate(seen.windows):
        nothing = np.full(len(window.collectives), UNKNOWN)
        blind = replace(window.collectives, group=nothing, payload_bytes=nothing, groups=())
        steps = StepWindows(source="whole trace", numbers=(0,), windows=window.steps.windows[:1], confidence=0.0)
        seen.windows[rank] = replace(window, collectives=blind, steps=steps)
    seen.check()


def test_windows_of_the_same_steps_are_one() -> None:
    first, second = Seen(Job(ranks=2, steps=2)).windows, Seen(Job(ranks=2, steps=2)).windows

    def later(window: RankWindow) -> RankWindow:
        steps = replace(window.steps, numbers=(40, 41))
        return replace(window, steps=steps, base_ns=window.base_ns + 100 * SECOND)

    windows: Sequence[RankWindow] = [first[0], later(second[0]), later(second[1]), first[1]]
    calls = calls_of(windows)
    assert calls.window.tolist() == [0] * 16 + [1] * 32 + [0] * 16
    instance = match(calls).instance
    assert set(instance[:16].tolist()).isdisjoint(instance[16:32].tolist())
    assert instance[:16].tolist() == instance[48:].tolist()
