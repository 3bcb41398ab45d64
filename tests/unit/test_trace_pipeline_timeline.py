"""The timeline of a whole job in one file: each rank is one of the report, with its place, its steps, its waiting."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]


def name_thread(pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}


def operation(pid: int, tid: int, name: str, begin_us: float, end_us: float, step: int = 7) -> dict[str, Any]:
    args = {"step": step, "mb_id": 0}
    return {
        "ph": "X",
        "cat": name,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": begin_us,
        "dur": end_us - begin_us,
        "args": args,
    }


def two_stages(first_forward_us: float = 100) -> list[dict[str, Any]]:
    """Two stages of one replica: what the first computes it sends, and the second one waits for it."""
    sent = first_forward_us
    return [
        name_thread(0, 1, "PP rank 0, TP rank 0, compute"),
        name_thread(0, 2, "PP rank 0, TP rank 0, pp-comm"),
        name_thread(0, 3, "PP rank 1, TP rank 0, compute"),
        name_thread(0, 4, "PP rank 1, TP rank 0, pp-comm"),
        operation(0, 1, "forward-compute", 0, sent),
        operation(0, 2, "forward-send", sent, sent + 10),
        operation(0, 3, "optimizer", 0, 20),
        operation(0, 4, "forward-recv", sent, sent + 10),
        operation(0, 3, "forward-compute", sent + 10, sent + 110),
        operation(0, 1, "forward-compute", sent + 120, sent + 130, step=8),
        operation(0, 3, "forward-compute", sent + 120.5, sent + 130.25, step=8),
    ]


def write(path: Path, events: list[Any]) -> Path:
    path.write_bytes(gzip.compress(json.dumps(events).encode()))
    return path


def test_every_rank_of_the_file_is_one_of_the_report(tmp_path: Path, report: Report) -> None:
    result = report(write(tmp_path / "job.json.gz", two_stages()))
    assert result["step_source"] == "timeline"
    assert [(rank["rank"], rank["role"], rank["device"]) for rank in result["ranks"]] == [
        (0, "DP 0, PP 0", "cuda"),
        (1, "DP 0, PP 1", "cuda"),
    ]
    assert result["source"]["world_size"] == 2
    first, second = result["ranks"]
    assert [(step["step"], step["wall_ns"]) for step in first["steps"]] == [(7, 220_000), (8, 10_000)]
    assert second["steps"][1]["compute_ns"] == 9_750, "from the decimal text"


def test_who_waits_to_receive_communicates(tmp_path: Path, report: Report) -> None:
    result = report(write(tmp_path / "job.json.gz", two_stages()))
    first, second = (rank["steps"][0] for rank in result["ranks"])
    assert first["partition_ns"]["p2p"] == 10_000
    assert second["partition_ns"]["p2p"] == 90_000, "from its operation before on"
    assert second["wait_ns"] == 80_000
    assert first["wait_ns"] == 0
    (row,) = result["collectives"]
    assert (row["kind"], row["ranks"], row["transfer_ns"]) == ("p2p", [0, 1], 10_000)


def test_all_ranks_have_one_clock(tmp_path: Path, report: Report) -> None:
    clocks = report(write(tmp_path / "job.json.gz", two_stages()))["clock"]
    assert [(clock["offset_ns"], clock["drift_ppm"]) for clock in clocks] == [(0, 0.0), (0, 0.0)]


def test_without_names_of_ranks_it_says_what_is_missing(tmp_path: Path, refusal: Refusal) -> None:
    unnamed = [event for event in two_stages() if event["ph"] == "X"]
    assert "does not name its pipeline ranks" in refusal(write(tmp_path / "job.json.gz", unnamed))


def test_what_is_odd_in_it_costs_itself(tmp_path: Path, report: Report) -> None:
    odd = [7, "text", {"ph": "X", "pid": 0, "tid": 1}, {"ph": "M", "name": "thread_name", "args": None}]
    odd += [{**operation(0, 1, "gc", 0, 1), "args": {"step": "x"}}, {**operation(0, 1, "gc", 0, 1), "dur": "long"}]
    result = report(write(tmp_path / "job.json.gz", [*two_stages(), *odd]))
    assert [len(rank["steps"]) for rank in result["ranks"]] == [2, 2]
