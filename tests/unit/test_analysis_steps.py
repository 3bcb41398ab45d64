"""How steps are found, marked and counted, on one rank and over several windows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import StepRecord, to_json
from tests.conftest import BASE_NS, WORKER, Trace

Report = Callable[[Trace], dict[str, Any]]


def windows(rank: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(step["step"], step["begin_ns"] - BASE_NS, step["wall_ns"]) for step in rank["steps"]]


def test_profiler_steps_in_order_of_time(trace: Report) -> None:
    made = Trace().step(8, 200, 300).step(7, 90, 200).event("aten::mm", 100, 250)
    rank = trace(made)
    assert windows(rank) == [(7, 90, 110), (8, 200, 100)]
    assert rank["report"]["step_source"] == "ProfilerStep"


def test_without_marks_a_step_ends_with_the_optimizers(trace: Report) -> None:
    made = Trace().event("aten::mm", 0, 300)
    made.event("Optimizer.step#AdamW.step", 80, 100, cat="user_annotation")
    made.event("Optimizer.step#AdamW.step", 180, 200, cat="user_annotation")
    rank = trace(made)
    assert windows(rank) == [(0, 0, 100), (1, 100, 100)]
    assert rank["report"]["step_source"] == "optimizer steps"


def test_an_optimizer_inside_an_optimizer_is_one_step(trace: Report) -> None:
    made = Trace().event("aten::mm", 0, 100).event("Optimizer.step#Wrapper.step", 50, 100, cat="user_annotation")
    made.event("Optimizer.step#AdamW.step", 60, 70, cat="user_annotation")
    made.event("Optimizer.step#AdamW.step", 70, 80, cat="user_annotation")
    assert windows(trace(made)) == [(0, 0, 100)]


def test_without_anything_the_whole_trace_is_one_step(trace: Report) -> None:
    rank = trace(Trace().event("aten::mm", 10, 50).event("aten::mm", 70, 90))
    assert windows(rank) == [(0, 10, 80)]
    assert rank["report"]["step_source"] == "whole trace"


def test_the_profilers_own_spans_are_no_part_of_the_trace(trace: Report) -> None:
    made = Trace().event("aten::mm", 10, 50).event("PyTorch Profiler (0)", 0, 100, cat="Trace")
    assert windows(trace(made)) == [(0, 10, 40)]


def test_a_collective_launched_as_a_step_ends_is_the_nexts(trace: Report) -> None:
    made = Trace().step(0, 0, 50).step(1, 50, 100).launch(1, 50).kernel("gemm", 0, 40)
    made.kernel("ncclDevKernel_AllReduce_Sum", 60, 90, correlation=1)
    assert [step["comm_calls"] for step in trace(made)["steps"]] == [{}, {"all_reduce": 1}]


def test_marks_on_another_thread_are_not_the_trainings(trace: Report) -> None:
    made = Trace().step(1, 0, 50).step(2, 50, 100).event("aten::mm", 0, 90)
    made.event("ProfilerStep#9", 0, 100, cat="user_annotation", tid=WORKER)
    assert [number for number, *_ in windows(trace(made))] == [1, 2]


@pytest.mark.parametrize("source", ["ProfilerStep", "recorded marks", "optimizer steps"])
def test_the_better_source_of_steps_wins(source: str, tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    made = Trace().event("aten::mm", 0, 100).event("Optimizer.step#SGD.step", 40, 50, cat="user_annotation")
    rank_folder = tmp_path / "ranks" / "00000"
    if source == "ProfilerStep":
        made.step(3, 0, 60)
    made.write(rank_folder / "trace.json")
    if source != "optimizer steps":
        records = [StepRecord(step=n, begin_ns=BASE_NS + 45 * n, end_ns=BASE_NS + 45 * n + 45) for n in range(3)]
        (rank_folder / "steps.jsonl").write_text("".join(to_json(record) + "\n" for record in records))
    result = report(tmp_path)
    assert result["step_source"] == source
    expected = {"ProfilerStep": [3], "recorded marks": [0, 1], "optimizer steps": [0]}
    assert [step["step"] for step in result["ranks"][0]["steps"]] == expected[source]


def test_kinds_that_run_at_once_have_their_own_time(trace: Report) -> None:
    made = Trace().step(1, 0, 900).kernel("gemm", 0, 200)
    made.kernel("ncclDevKernel_ReduceScatter_Sum", 0, 400, stream=8).kernel("ncclDevKernel_ReduceScatter", 300, 400)
    made.kernel("ncclDevKernel_AllGather_RING", 200, 500, stream=9)
    (step,) = trace(made)["steps"]
    assert step["comm_kind_ns"] == {"all_gather": 300, "reduce_scatter": 400}
    assert step["overlapped_ns"] == {"all_gather": 0, "reduce_scatter": 200}
    assert (step["partition_ns"]["all_gather"], step["partition_ns"]["reduce_scatter"]) == (300, 0)
    assert (step["comm_ns"], step["overlap_ns"]) == (500, 200)


def test_a_step_without_work_is_marked(trace: Report) -> None:
    made = Trace().step(1, 0, 100).step(2, 100, 200).step(3, 200, 210)
    made.kernel("gemm", 0, 90).kernel("gemm", 100, 195).kernel("ncclKernel_AllReduce", 205, 205)
    assert [step["empty"] for step in trace(made)["steps"]] == [False, False, True]


def test_calls_of_an_empty_step_are_not_in_the_communication_table(trace: Report) -> None:
    made = Trace().step(1, 0, 1000).step(2, 1000, 2000).kernel("gemm", 0, 900)
    made.kernel("ncclKernel_AllReduce", 900, 950).kernel("ncclKernel_AllReduce", 1500, 1501)
    rank = trace(made)
    assert [step["empty"] for step in rank["steps"]] == [False, True]
    assert [row["calls"] for row in rank["report"]["collectives"]] == [1]


def test_windows_of_a_rank_are_taken_together_in_order_of_time(
    tmp_path: Path, report: Callable[..., dict[str, Any]]
) -> None:
    folder = tmp_path / "ranks" / "00000"
    for number, name in ((3, "trace.json.gz"), (5, "trace.1.json.gz"), (7, "trace.2.json.gz"), (9, "trace.10.json.gz")):
        made = Trace().step(number, 1000 * number, 1000 * number + 100)
        made.kernel("gemm", 1000 * number, 1000 * number + 60).write(folder / name)
    (rank,) = report(tmp_path)["ranks"]
    assert [step["step"] for step in rank["steps"]] == [3, 5, 7, 9]
    assert (rank["total"]["span_ns"], rank["total"]["gpu_events"]) == (240, 4)
