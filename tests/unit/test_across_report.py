"""Ranks compared in time, from trace files to the report: numbers, clocks, waits and bandwidths that were planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardprof.cli import main
from tests.conftest import Trace, distributed_info

MS = 1_000_000
OFFSET_NS = 2_500 * MS
ELEMENTS = 25_000_000  # of four bytes: 0.1 GB


def job(folder: Path, first_number: int | None = 17) -> Path:
    """Two ranks, two steps of 100 ms, in each an all-reduce that rank 1 joins 30 ms late and that then takes 20 ms.

    Rank 1's clock is OFFSET_NS ahead, and its window lacks the first all-reduce.
    """
    for rank, (ahead, arrive) in enumerate(((0, 10), (OFFSET_NS, 40))):
        made = Trace(header={"distributedInfo": distributed_info(rank, [0, 1])["distributedInfo"]})
        for number in range(6):
            begin = ahead + number * 100 * MS
            made.step(number, begin, begin + 100 * MS)
            if rank == 1 and number == 0:
                continue
            metadata: dict[str, Any] = {
                "Collective_name": "allreduce", "In_msg_nelems": ELEMENTS, "Out_msg_nelems": ELEMENTS,
                "dtype": "Float", "Group_size": 2, "Process_Group_Name": "0",
            }  # fmt: skip
            if first_number is not None:
                metadata["Seq"] = first_number + number
            made.launch(number, begin + 1 * MS)
            made.kernel("gemm", begin + 2 * MS, begin + arrive * MS, correlation=1000 + number)
            made.kernel(
                "ncclDevKernel_AllReduce_Sum", begin + arrive * MS, begin + 60 * MS, stream=9,
                correlation=number, **metadata,
            )  # fmt: skip
        made.write(folder / f"rank{rank}.json")
    return folder


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["report", *arguments, "--format", "json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("first_number", [17, None])
def test_waits_and_bandwidths_are_those_on_one_clock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first_number: int | None
) -> None:
    result = report(capsys, str(job(tmp_path, first_number)))
    assert [clock["offset_ns"] for clock in result["clock"]] == [0, pytest.approx(OFFSET_NS, abs=10)]
    (row,) = result["collectives"]
    assert (row["calls"], row["payload_bytes"]) == (6, 6 * 4 * ELEMENTS)
    assert row["transfer_ns"] == pytest.approx(5 * 20 * MS, abs=100), "of the five that both ranks have"
    assert row["wait_ns"] == pytest.approx(5 * 15 * MS, abs=100), "30 ms of one of two ranks"
    assert row["algbw_gbps"] == pytest.approx(5.0, rel=1e-3)
    assert row["busbw_gbps"] == pytest.approx(5.0, rel=1e-3)
    assert {doubt["code"]: doubt["count"] for doubt in result["quality"]}["collectives_unmatched"] == 1


def test_the_traces_own_times_can_be_trusted_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(job(tmp_path))
    result = report(capsys, folder, "--clock", "traces")
    assert [(clock["offset_ns"], clock["drift_ppm"]) for clock in result["clock"]] == [(0, 0.0), (0, 0.0)]
    assert all(clock["residual_ns"] > 1e9 for clock in result["clock"]), "and says that they should not be"
    assert report(capsys, folder)["clock"][1]["residual_ns"] < 100, "what was asked for is not taken from the cache"


def test_one_rank_has_no_clock_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = report(capsys, str(job(tmp_path) / "rank0.json"))
    assert result["clock"] is None
    assert result["collectives"][0]["transfer_ns"] is None
