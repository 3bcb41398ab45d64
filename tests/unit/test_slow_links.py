"""A rank that sends more slowly than the others is named, by counters that were planted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardprof.analysis.result import Rank
from shardprof.analysis.slow_links import slow_links
from tests.unit.builders import MS, rank, step


def sending(number: int, rate_mb_s: float, busy_ms: float = 40) -> Rank:
    """A rank that sends for `busy_ms` of steps of 100 ms."""
    counters = {"tcp_sent_bytes": rate_mb_s * 1e3 * busy_ms, "tcp_busy_s": busy_ms / 1e3}
    return rank(number, *(replace(step(s, all_reduce=100), counters=counters) for s in range(5)))


def test_the_slow_one_is_named_with_what_its_link_costs() -> None:
    (found,) = slow_links([sending(0, 100), sending(1, 25), sending(2, 100), sending(3, 90)])
    assert (found.rank, found.cause, found.steps, found.of_steps) == (1, "link", 5, 5)
    assert found.cost_ns_per_step == pytest.approx(30 * MS)
    assert found.evidence[0].message == (
        "sends at 25 MB/s to other machines while it has something to send, 40 ms a step; the others at 100"
    )


def test_connections_that_send_at_once_do_not_cost_more_than_the_step() -> None:
    (found,) = slow_links([sending(0, 100), sending(1, 25, busy_ms=400)])
    assert found.cost_ns_per_step == pytest.approx(75 * MS)


@pytest.mark.parametrize(
    "ranks",
    [
        [sending(0, 100), sending(1, 70)],
        [sending(0, 100), sending(1, 25, busy_ms=5)],
        [sending(0, 100), rank(1, step())],
        [sending(0, 100)],
        [],
    ],
    ids=["a little slower", "hardly sends", "no counters", "alone", "nobody"],
)
def test_nobody_is_named_without_a_reason(ranks: list[Rank]) -> None:
    assert slow_links(ranks) == ()
