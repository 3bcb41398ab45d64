"""The figures that a report leads with, on results made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shardprof.analysis.result import GROUPS
from shardprof.analysis.summary import summarize
from shardprof.trace.classes import CLASSES
from shardprof.trace.quality import Quality

from .builders import MS, always_on, rank, result, step


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
    assert (summary.steps.median.rank, summary.steps.median.step) == (1, 7)
    assert (summary.steps.slowest.rank, summary.steps.slowest.step) == (0, 8)
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


def test_communication_is_summed_over_steps_and_ranks() -> None:
    one = replace(
        step(7, compute=10, all_gather=4),
        comm_calls={"all_gather": 3},
        comm_bytes={"all_gather": 300},
        comm_kind_ns={"all_gather": 6 * MS},
        overlapped_ns={"all_gather": 2 * MS},
    )
    other = replace(one, partition_ns=one.partition_ns | {"all_gather": 2 * MS}, comm_calls={"all_gather": 2})
    steps = summarize(result(rank(0, one), rank(1, other))).steps
    assert steps is not None
    (kind,) = steps.kinds
    assert (kind.calls, kind.payload_bytes) == (5, 600)
    assert (kind.comm_ns, kind.exposed_ns, kind.overlapped_ns) == (12 * MS, 6 * MS, 4 * MS)


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


def test_the_slowest_step_is_compared_by_class_with_the_median_one() -> None:
    steps = summarize(result(rank(0, step(7, compute=5), step(8, compute=5), step(9, compute=4, p2p=9)))).steps
    assert steps is not None
    assert {name: ns for name, ns in steps.slower_ns.items() if ns} == {"compute": -1 * MS, "p2p": 9 * MS}


@pytest.mark.parametrize(
    ("parts", "by", "others"),
    [
        ({"compute": 72, "all_gather": 28}, "compute", {"communication": 0.28}),
        ({"compute": 70, "all_gather": 29, "idle": 1}, "communication", {"compute": 0.7}),
        ({"compute": 20, "idle": 45, "memcpy": 35}, "idle", {"copies": 0.35, "compute": 0.2}),
    ],
)
def test_the_bound_is_the_largest_loss_that_matters(parts: dict[str, float], by: str, others: dict[str, float]) -> None:
    bound = summarize(result(rank(0, step(**parts)))).bound
    assert bound is not None
    assert bound.by == by
    assert bound.share == pytest.approx(1 - sum(others.values()), abs=0.011)
    assert list(bound.others.items()) == list(others.items())


def test_phases_are_medians_over_the_ranks_that_saw_them() -> None:
    recorded = [always_on(100, data=20), always_on(100, data=30, forward=40), always_on(200)]
    summary = summarize(result(*(rank(i, device=None, always_on=record) for i, record in enumerate(recorded))))
    assert summary.phases == {"data": 0.25, "forward": 0.4}
    assert (summary.bound and summary.bound.by) == "data_loading"


def test_operators_that_only_launch_work_bound_nothing() -> None:
    doubt = Quality(code="no_device_activities", message="")
    summary = summarize(result(rank(0, step(compute=9, idle=1), device="cpu"), quality=(doubt,)))
    assert (summary.only_cpu_side, summary.bound) == (True, None)
    mixed = summarize(result(rank(0, step(compute=9)), rank(1, step(compute=9), device="cpu"), quality=(doubt,)))
    assert mixed.bound is not None
