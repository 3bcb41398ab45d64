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


def on(host: str, made: Rank) -> Rank:
    return replace(made, host=host)


def test_a_rank_that_sends_little_behind_the_bulk_of_its_node_has_no_slow_link() -> None:
    """As measured: of a ring over two nodes of two ranks, two send what crosses, the others only say that they are
    ready, which waits in the same queue."""
    bulk, notes = {"rate_mb_s": 5.7, "busy_ms": 90}, {"rate_mb_s": 0.0014, "busy_ms": 60}
    ranks = [sending(0, **bulk), sending(1, **notes), sending(2, **bulk), sending(3, **notes)]
    assert slow_links([on(f"node-{made.rank // 2}", made) for made in ranks]) == ()
    assert [found.rank for found in slow_links([on(f"node-{made.rank}", made) for made in ranks])] == [1, 3], "alone"


def test_a_rail_that_is_slow_is_named_beside_fast_ones_of_its_node() -> None:
    ranks = [sending(0, 100), sending(1, 25, busy_ms=160), sending(2, 100), sending(3, 100)]
    assert [found.rank for found in slow_links([on(f"node-{made.rank // 2}", made) for made in ranks])] == [1]


def test_both_ranks_of_a_node_with_a_slow_link_are_named() -> None:
    ranks = [sending(0, 100), sending(1, 50, busy_ms=20), sending(2, 20, busy_ms=80), sending(3, 10, busy_ms=40)]
    named = [found.rank for found in slow_links([on(f"node-{made.rank // 2}", made) for made in ranks])]
    assert sorted(named) == [2, 3]


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
