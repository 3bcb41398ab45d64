"""The figures that a report leads with, on results made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardprof.analysis.summary import GROUPS, recorded, summarize
from shardprof.trace.classes import CLASSES

from .builders import MS, always_on, collective, rank, result, step


def test_the_groups_are_the_classes() -> None:
    assert sorted(name for classes in GROUPS.values() for name in classes) == sorted(CLASSES)


def test_the_parts_of_all_steps_add_up_to_their_time() -> None:
    steps = summarize(
        result(rank(0, step(7, compute=6, all_gather=3, idle=1), step(8, compute=5, memcpy=2, memset=1)))
    ).steps
    assert steps is not None
    assert steps.groups_ns == {
        "compute": 11 * MS,
        "communication": 3 * MS,
        "copies": 3 * MS,
        "data_loading": 0,
        "launch_bound": 0,
        "idle": 1 * MS,
    }
    assert sum(steps.groups_ns.values()) == 18 * MS
    assert steps.share("copies") == pytest.approx(3 / 18)


def test_the_median_is_a_step_that_was_measured() -> None:
    summary = summarize(result(rank(0, step(7, compute=10), step(8, compute=30)), rank(1, step(7, compute=20))))
    assert summary.steps is not None
    assert (summary.steps.median.rank, summary.steps.median.step.step) == (1, 7)
    assert (summary.steps.slowest.rank, summary.steps.slowest.step.step) == (0, 8)
    assert [entry.step_ns for entry in summary.ranks] == [10 * MS, 20 * MS]


def test_empty_steps_are_named_and_kept_out_of_every_figure() -> None:
    summary = summarize(result(rank(0, step(7, compute=10), step(8, empty=True, idle=500))))
    assert summary.empty_steps == (8,)
    assert summary.steps is not None
    assert summary.steps.count == 1
    assert summary.steps.groups_ns["idle"] == 0
    assert summary.ranks[0].steps == 1


def test_a_rank_without_steps_stays_in_the_list_without_a_time() -> None:
    summary = summarize(result(rank(0, step(7, compute=10)), rank(1, device=None)))
    assert [entry.step_ns for entry in summary.ranks] == [10 * MS, None]
    assert summary.ranks[1].share("compute") == 0


def test_without_any_step_there_are_no_figures() -> None:
    assert summarize(result(rank(0))).steps is None
    assert summarize(result(rank(0, step(empty=True, idle=9)))).steps is None


def test_communication_is_a_mean_over_steps_and_ranks() -> None:
    one = replace(
        step(7, compute=10, all_gather=4),
        comm_calls={"all_gather": 3},
        comm_bytes={"all_gather": 300},
        comm_kind_ns={"all_gather": 6 * MS},
        overlapped_ns={"all_gather": 2 * MS},
    )
    other = replace(one, partition_ns=one.partition_ns | {"all_gather": 2 * MS}, comm_calls={"all_gather": 2})
    steps = summarize(
        result(rank(0, one), rank(1, other), collectives=(collective("all_gather", "shard", [0, 1]),))
    ).steps
    assert steps is not None
    (kind,) = steps.kinds
    assert (kind.calls, kind.payload_bytes) == (2.5, 300)
    assert (kind.comm_ns, kind.exposed_ns, kind.overlapped_ns) == (6 * MS, 3 * MS, 2 * MS)
    assert kind.groups == ("shard (2 ranks)",)


def test_overlap_is_a_share_of_the_kinds_own_time() -> None:
    beside_a_gather = replace(
        step(7, compute=2, all_gather=2),
        comm_kind_ns={"all_gather": 2 * MS, "reduce_scatter": 4 * MS},
        overlapped_ns={"reduce_scatter": 2 * MS},
    )
    steps = summarize(result(rank(0, beside_a_gather))).steps
    assert steps is not None
    assert [(kind.kind, kind.exposed_ns, kind.overlapped_share) for kind in steps.kinds] == [
        ("all_gather", 2 * MS, 0.0),
        ("reduce_scatter", 0, 0.5),
    ]


def test_a_size_that_is_unknown_in_one_step_is_unknown() -> None:
    known = replace(step(7, compute=1), comm_calls={"p2p": 1}, comm_bytes={"p2p": 5})
    unknown = replace(known, comm_bytes={"p2p": None})
    steps = summarize(result(rank(0, known, unknown))).steps
    assert steps is not None
    assert steps.kinds[0].payload_bytes is None


def test_equal_groups_are_counted() -> None:
    rows = (
        collective("all_reduce", "mesh_rep", [0, 2]),
        collective("all_reduce", "mesh_rep", [1, 3]),
        replace(collective("all_reduce", "2 ranks", [0, 1]), ranks=None),
        replace(collective("all_reduce", "unknown", []), ranks=None, group_size=None),
    )
    steps = summarize(result(rank(0, step(compute=1, all_reduce=1)), collectives=rows)).steps
    assert steps is not None
    assert steps.kinds[0].groups == ("mesh_rep (2 x 2 ranks)", "2 ranks")


def test_of_many_ranks_those_that_stand_out_say_so() -> None:
    ranks = [rank(i, step(7, compute=60 + 0.01 * i, all_gather=40 - 0.01 * i, idle=0.001 * i)) for i in range(64)]
    ranks[17] = rank(17, step(7, compute=80, all_gather=20, idle=0.017))
    remarks = {entry.rank: entry.remark for entry in summarize(result(*ranks)).ranks if entry.remark}
    assert remarks == {0: "fastest", 31: "median", 63: "slowest", 17: "outlier"}


def test_few_ranks_have_no_remarks() -> None:
    ranks = [rank(i, step(7, compute=60 + 30 * (i == 3))) for i in range(16)]
    assert not any(entry.remark for entry in summarize(result(*ranks)).ranks)


def test_even_ranks_have_no_outliers() -> None:
    ranks = [rank(i, step(7, compute=60 + i % 3)) for i in range(32)]
    assert sum(entry.remark == "outlier" for entry in summarize(result(*ranks)).ranks) == 0


def test_of_many_recorded_ranks_three_are_kept() -> None:
    ranks = [rank(i, always_on=always_on(100 + i)) for i in range(33)]
    assert [kept.rank for kept in recorded(ranks)] == [32, 16, 0]
    assert [kept.rank for kept in recorded([rank(0), *ranks[1:4]])] == [1, 2, 3]
