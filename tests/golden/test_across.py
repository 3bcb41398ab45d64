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
