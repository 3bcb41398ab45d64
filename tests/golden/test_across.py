"""Eight real ranks whose clocks are known to agree within 7 us, and of which rank 7 is known to come last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardprof.analysis.cache import report_of
from shardprof.trace.across.calls import RankWindow, calls_of
from shardprof.trace.across.clock import align, on_reference
from shardprof.trace.across.gaps import gaps_of
from shardprof.trace.across.matching import match
from shardprof.trace.across.meetings import meetings
from shardprof.trace.run import load
from shardprof.trace.steps import find_steps

TRACES = Path(os.environ.get("SHARDPROF_TRACES", Path(__file__).parents[3] / "shared" / "traces"))
DLRM = TRACES / "dlrm-8rank-v100"
pytestmark = pytest.mark.skipif(not DLRM.is_dir(), reason=f"{DLRM} is not there")


def test_clocks_that_agree_are_found_to_agree() -> None:
    clocks = report_of(load([DLRM])).clock or ()
    assert len(clocks) == 8
    assert all(clock.offset_ns is not None and abs(clock.offset_ns) < 7_000 for clock in clocks)
    assert all(clock.residual_ns is not None and clock.residual_ns < 7_000 for clock in clocks)


def test_rank_7_comes_last_in_five_of_eight_collectives() -> None:
    windows = [
        RankWindow(
            rank=rank.rank, clock=None, base_ns=trace.base_ns, steps=find_steps(trace, ()),
            collectives=trace.activities.collectives,
            gaps=gaps_of(trace.activities, 0),
        )
        for rank in load([DLRM]).ranks([])
        for trace in rank.traces
        if trace.activities
    ]  # fmt: skip
    calls = calls_of(windows)
    instance = match(calls).instance
    clocks = align(calls, instance)
    begin_ns = on_reference(clocks, calls.rank, calls.begin_ns)
    met = meetings(calls, instance, begin_ns, on_reference(clocks, calls.rank, calls.end_ns))
    assert (len(met), set(met.ranks.tolist())) == (8, {8})
    assert met.last_rank.tolist().count(7) == 5


STRAGGLERS = TRACES / "stragglers"


def test_one_slow_worker_is_named_before_all_others() -> None:
    first, *others = report_of(load([STRAGGLERS / "slow-worker.json.gz"])).stragglers or ()
    assert (first.rank, first.cause, first.steps, first.of_steps) == (0, "compute", 44, 44)
    assert first.cost_ns_per_step > 10 * max((other.cost_ns_per_step for other in others), default=0)


def test_a_slow_last_stage_is_not_taken_for_a_slow_rank() -> None:
    result = report_of(load([STRAGGLERS / "slow-last-stage.json.gz"]))
    roles = {rank.rank: rank.role for rank in result.ranks}
    assert {(roles[found.rank], found.cause) for found in result.stragglers or ()} == {
        ("DP 0, PP 3", "imbalance"),
        ("DP 1, PP 3", "imbalance"),
    }
