"""The calls of a group by what each carries: counts that sum up, and times and bandwidths that were planted."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.analysis.communication import CommunicationTable
from shardprof.trace.collectives import COLUMNS, UNKNOWN, Collectives
from tests.conftest import Trace, distributed_info

MS = 1_000_000
SMALL, LARGE = 1_000_000, 10_000_000  # elements of four bytes


def job(folder: Path) -> Path:
    """Two ranks with three small all-gathers of 2, 3 and 40 ms after the last has come, and a large one of 20 ms; rank
    1 is 5 ms late to each."""
    for rank in range(2):
        made = Trace(header={"distributedInfo": distributed_info(rank, [0, 1])["distributedInfo"]})
        made.step(0, 0, 400 * MS)
        for number, (elements, lasts) in enumerate(((SMALL, 2), (LARGE, 20), (SMALL, 40), (SMALL, 3))):
            arrives, begin = 5 * MS * rank, 100 * MS * number
            made.launch(number, begin)
            made.kernel("gemm", begin + 1, begin + 1 * MS + arrives, correlation=100 + number)
            made.kernel(
                "ncclDevKernel_AllGather_RING", begin + 1 * MS + arrives, begin + (6 + lasts) * MS, stream=9,
                correlation=number, Collective_name="_allgather_base", In_msg_nelems=elements // 2,
                Out_msg_nelems=elements, dtype="Float", Group_size=2, Process_Group_Name="0", Seq=number,
            )  # fmt: skip
        made.write(folder / f"rank{rank}.json")
    return folder


def test_times_are_medians_of_the_calls_of_a_size(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    (row,) = report(job(tmp_path))["collectives"]
    small, large = row["sizes"]
    assert [(one["payload_bytes"], one["calls"]) for one in (small, large)] == [(4 * SMALL, 3), (4 * LARGE, 1)]
    assert sum(one["payload_bytes"] * one["calls"] for one in (small, large)) == row["payload_bytes"]
    assert (small["transfer_ns"], large["transfer_ns"]) == (3 * MS, 20 * MS)
    assert small["wait_ns"] == large["wait_ns"] == 2.5 * MS, "5 ms of one of two ranks"
    assert small["median_ns"] in (3 * MS, 8 * MS), "of one of the ranks, with its wait"
    assert small["algbw_gbps"] == pytest.approx(4 * SMALL / (3 * MS))
    assert large["busbw_gbps"] == pytest.approx(4 * LARGE / (20 * MS) / 2)


def test_one_rank_tells_no_waits(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    (row,) = report(job(tmp_path) / "rank0.json")["collectives"]
    assert [one["calls"] for one in row["sizes"]] == [3, 1]
    assert [one["median_ns"] for one in row["sizes"]] == [8 * MS, 25 * MS]
    assert {one[name] for one in row["sizes"] for name in ("transfer_ns", "wait_ns", "busbw_gbps")} == {None}


def test_sizes_that_are_not_told_are_not_zero(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    made = (
        Trace().step(0, 0, 10 * MS).launch(1, 1000).kernel("ncclDevKernel_AllReduce_Sum", 1 * MS, 2 * MS, correlation=1)
    )
    (row,) = report(made.write(tmp_path / "trace.json"))["collectives"]
    assert [(one["payload_bytes"], one["calls"]) for one in row["sizes"]] == [(None, 1)]


def experts(folder: Path, calls: int) -> Path:
    """Two ranks whose all-to-alls carry another size each, the larger the longer: the n-th n * 4 kB in n * 10 µs."""
    for rank in range(2):
        made = Trace(header={"distributedInfo": distributed_info(rank, [0, 1])["distributedInfo"]})
        made.step(0, 0, 10 * calls * MS)
        for number in range(1, calls + 1):
            begin = 10 * MS * (number - 1)
            made.launch(number, begin)
            made.kernel(
                "ncclDevKernel_SendRecv", begin + MS, begin + MS + 10_000 * number, stream=9, correlation=number,
                Collective_name="all_to_allv", In_msg_nelems=1000 * number, Out_msg_nelems=1000 * number,
                dtype="Float", Group_size=2, Process_Group_Name="0", Seq=number,
            )  # fmt: skip
        made.write(folder / f"rank{rank}.json")
    return folder


def test_of_very_many_sizes_those_that_took_most_time_are_told(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    (row,) = report(experts(tmp_path, 100))["collectives"]
    assert [one["payload_bytes"] for one in row["sizes"]] == [4000 * number for number in range(37, 101)]
    assert [one["transfer_ns"] for one in row["sizes"]] == [10_000 * number for number in range(37, 101)]
    assert (row["calls"], row["sizes_left_out"]) == (100, 36)


@given(st.lists(st.tuples(st.integers(-1, 80) | st.integers(0, 10**12), st.integers(0, 10**9)), min_size=1))
def test_sizes_are_those_of_a_plain_count(calls: list[tuple[int, int]]) -> None:
    payload_bytes, lasts_ns = np.array(calls, dtype=np.int64).T
    columns = {name: np.zeros(len(calls), dtype=np.int64) for name in COLUMNS}
    columns |= {"end_ns": lasts_ns, "payload_bytes": payload_bytes, "group": columns["group"] + UNKNOWN}
    window = Collectives(**columns, groups=())
    table = CommunicationTable()
    table.add_rank([window])
    (row,) = table.rows()
    times: dict[int, list[int]] = {}
    for size, lasts in calls:
        times.setdefault(size, []).append(lasts)
    kept = sorted(sorted(times, key=lambda size: (-sum(times[size]), size))[:64])
    assert [(one.payload_bytes, one.calls, one.median_ns) for one in row.sizes] == [
        (None if size == UNKNOWN else size, len(times[size]), int(statistics.median(times[size]))) for size in kept
    ]
    assert row.sizes_left_out == len(times) - len(kept)
