"""Real public traces through the real command line: every figure of golden.json, to the nanosecond.

They lie in `shared/traces` beside the checkout, or where SHARDPROF_TRACES says.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(os.environ.get("SHARDPROF_TRACES") or Path(__file__).parents[3] / "shared" / "traces")
GOLDEN = json.loads((PLACE / "golden.json").read_text()) if (PLACE / "golden.json").exists() else {}

pytestmark = pytest.mark.skipif(not GOLDEN, reason=f"the public traces are not in {PLACE} (SHARDPROF_TRACES)")

Report = Callable[..., dict[str, Any]]

# What the golden figures do not cover: rank, device and number of steps of each file.
OTHERS = {
    "dataloader-bound/workers0.json.gz": (0, "cuda", 6),
    "dataloader-bound/workers4.json.gz": (0, "cuda", 6),
    "edge/cpu_only_rank34.json.gz": (34, "cpu", 1),
    "edge/distributed_info_unavailable.json.gz": (0, "cpu", 1),
    "edge/old_category_names.json.gz": (1, "cuda", 1),
    "edge/rank_non_gpu.json.gz": (0, "cpu", 1),
    "edge/rank_unavailable.json.gz": (0, "cpu", 1),
    "stragglers/slow-last-stage.json.gz": (0, "cuda", 32),
    "stragglers/slow-worker.json.gz": (0, "cuda", 44),
}


def test_every_public_trace_is_checked() -> None:
    files = {str(file.relative_to(PLACE)) for file in PLACE.rglob("*.json.gz")}
    assert files == GOLDEN.keys() | OTHERS.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_totals_and_steps_are_exact(name: str, report: Report) -> None:
    (rank,) = report(PLACE / name)["ranks"]
    expected = GOLDEN[name]["exact"]
    assert rank["device"] == "cuda"
    assert rank["total"] == {key: value for key, value in expected.items() if key != "steps"}
    if expected["steps"]:
        keys = [key for key in expected["steps"][0] if key != "data_loading_span_ns"]
        assert [{key: step[key] for key in keys} for step in rank["steps"]] == [
            {key: step[key] for key in keys} for step in expected["steps"]
        ]


@pytest.mark.parametrize("name", [*GOLDEN, *OTHERS])
def test_partitions_sum_to_the_steps_wall_time(name: str, report: Report) -> None:
    for rank in report(PLACE / name)["ranks"]:
        for step in rank["steps"]:
            partition = step["partition_ns"]
            assert sum(partition.values()) == step["wall_ns"]
            assert min(partition.values()) >= 0
            assert partition["compute"] == step["compute_ns"]
            exposed_ns = sum(partition[kind] for kind in step["overlapped_ns"])
            assert exposed_ns == step["comm_ns"] - step["overlap_ns"]
            for kind, time_ns in step["comm_kind_ns"].items():
                assert partition[kind] + step["overlapped_ns"][kind] <= time_ns <= step["comm_ns"]


@pytest.mark.parametrize(("name", "rank", "device", "steps"), [(name, *expected) for name, expected in OTHERS.items()])
def test_other_traces_report_what_they_have(
    name: str, rank: int, device: str | None, steps: int, report: Report
) -> None:
    found, *_ = report(PLACE / name)["ranks"]
    assert (found["rank"], found["device"], len(found["steps"])) == (rank, device, steps)
    assert (found["total"] is None) == (device is None)


LOADING = ["dataloader-bound/workers0.json.gz", "dataloader-bound/workers4.json.gz"]
LOADING += [f"dlrm-8rank-v100/worker{rank}.json.gz" for rank in range(8)]
DEVICE_CATEGORIES = {"kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"}


def loading_ns(trace: Path) -> dict[str, int]:
    """By step: the time in which the main thread is inside the loader and nothing runs on the GPU, in one sweep."""
    with gzip.open(trace, "rt") as text:
        events = [event for event in json.load(text, parse_float=Decimal)["traceEvents"] if event.get("ph") == "X"]
    main = next(event["tid"] for event in events if event["name"].startswith("ProfilerStep#"))
    borders = []
    for event in events:
        is_main, name, device = event["tid"] == main, event["name"], event["cat"].lower() in DEVICE_CATEGORIES
        if device or (is_main and (name.startswith("ProfilerStep#") or "__next__" in name)):
            what = "device" if device else "loader" if "__next__" in name else name
            begin, end = event["ts"], event["ts"] + event["dur"]
            borders += [(int(begin * 1000), 1, what), (int(end * 1000), -1, what)]
    found: Counter[str] = Counter()
    active: Counter[str] = Counter()
    before = 0
    for time, change, what in sorted(borders):
        if active["loader"] and not active["device"]:
            found.update({step: time - before for step in active if step.startswith("Prof") and active[step]})
        active[what] += change
        before = time
    return dict(found)


@pytest.mark.parametrize("name", LOADING)
def test_data_loading_is_the_loader_beside_an_idle_gpu(name: str, report: Report) -> None:
    expected = loading_ns(PLACE / name)
    assert sum(expected.values()) > 0
    steps = report(PLACE / name)["ranks"][0]["steps"]
    found = {f"ProfilerStep#{step['step']}": step["partition_ns"]["data_loading"] for step in steps}
    assert {step: ns for step, ns in found.items() if ns} == {step: ns for step, ns in expected.items() if ns}


def test_eight_ranks_are_one_job(report: Report) -> None:
    result = report(PLACE / "dlrm-8rank-v100")
    assert [rank["rank"] for rank in result["ranks"]] == list(range(8))
    assert {row["kind"]: row["calls"] for row in result["collectives"]} == {"all_reduce": 3, "all_to_all": 5}


def test_nccl_metadata_gives_sizes(report: Report) -> None:
    result = report(PLACE / "ddp-nccl-metadata-a100" / "rank0.json.gz")
    calls = {row["kind"]: (row["calls"], row["group_size"], row["ranks"]) for row in result["collectives"]}
    assert calls == {"all_reduce": (15, 2, [0, 1]), "broadcast": (6, 2, [0, 1])}
    for row in result["collectives"]:
        assert row["payload_bytes"] == row["wire_bytes"]  # 2(n-1)/n and 1 are the same for two ranks
        assert row["payload_bytes"] == sum(step["comm_bytes"][row["kind"]] for step in result["ranks"][0]["steps"])
