"""What a trace with device activities tells: classes, precedence, launches, collectives and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Trace, distributed_info

Report = Callable[[Trace], dict[str, Any]]

ALL_REDUCE = {"Collective_name": "allreduce", "In_msg_nelems": 1000, "Out_msg_nelems": 1000, "dtype": "Float"}


def parts(step: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in step["partition_ns"].items() if value}


def test_a_nanosecond_belongs_to_the_first_class_that_covers_it(trace: Report) -> None:
    made = Trace().step(5, 0, 100).next_batch(75, 100)
    made.kernel("gemm", 0, 20, stream=1)
    made.kernel("ncclDevKernel_AllGather_RING", 10, 40, stream=2)
    made.kernel("ncclDevKernel_ReduceScatter_Sum_f32", 30, 50, stream=3)
    made.kernel("Memcpy HtoD", 45, 60, stream=4, cat="gpu_memcpy")
    made.kernel("Memset", 55, 65, stream=5, cat="gpu_memset")
    made.kernel("elementwise", 80, 90, stream=1, correlation=1).launch(1, 70)
    (step,) = trace(made)["steps"]
    assert parts(step) == {
        "compute": 30, "all_gather": 20, "reduce_scatter": 10, "memcpy": 10, "memset": 5, "data_loading": 15,
        "launch_bound": 10,
    }  # fmt: skip
    assert step["overlapped_ns"] == {"all_gather": 10, "reduce_scatter": 0}
    assert (step["compute_ns"], step["comm_ns"], step["overlap_ns"], step["busy_ns"]) == (30, 40, 10, 75)


def test_kinds_that_overlap_are_counted_once(trace: Report) -> None:
    made = Trace().step(0, 0, 100)
    made.kernel("ncclDevKernel_AllReduce_Sum", 0, 60, stream=1).kernel("ncclDevKernel_AllGather", 20, 50, stream=2)
    made.kernel("ncclDevKernel_SendRecv", 40, 80, stream=3).kernel("gemm", 70, 100)
    (step,) = trace(made)["steps"]
    assert parts(step) == {"compute": 30, "all_gather": 30, "all_reduce": 30, "p2p": 10}
    assert step["overlapped_ns"] == {"all_gather": 0, "all_reduce": 0, "p2p": 10}
    assert step["comm_ns"] == 80


def test_totals_are_over_the_whole_trace(trace: Report) -> None:
    made = Trace().step(0, 10, 20).kernel("gemm", 0, 50).kernel("ncclDevKernel_AllReduce_Sum", 40, 80, stream=2)
    made.kernel("Memcpy", 90, 100, cat="gpu_memcpy")
    assert trace(made)["total"] == {
        "span_ns": 100, "busy_ns": 90, "idle_ns": 10, "compute_ns": 50, "comm_ns": 40, "exposed_comm_ns": 30,
        "overlap_ns": 10, "memcpy_ns": 10, "memset_ns": 0, "gpu_events": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("ncclKernel_ReduceScatter_RING_LL_Sum_half(ncclDevComm*)", "reduce_scatter"),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "p2p"),
        ("rcclGenericKernel<1, false>", "other_comm"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>()", "all_reduce"),
        ("void at::native::reduce_kernel<512, 1>()", "compute"),
    ],
)
def test_a_kernels_name_tells_its_class(kernel: str, expected: str, trace: Report) -> None:
    assert parts(trace(Trace().step(0, 0, 100).kernel(kernel, 0, 100))["steps"][0]) == {expected: 100}


def test_a_device_is_named_where_it_is_used(trace: Report) -> None:
    header = {"deviceProperties": [{"id": 0, "name": "H100"}, {"id": 1, "name": "H100"}]}
    assert trace(Trace(header).kernel("gemm", 0, 9))["report"]["source"]["device_name"] == "H100"
    assert trace(Trace(header).event("aten::mm", 0, 9))["report"]["source"]["device_name"] is None


def test_activities_are_clipped_to_the_step(trace: Report) -> None:
    made = Trace().step(1, 100, 200).step(2, 200, 300).kernel("gemm", 50, 250).kernel("ncclKernel_Broadcast", 260, 400)
    rank = trace(made)
    assert [parts(step) for step in rank["steps"]] == [{"compute": 100}, {"compute": 50, "broadcast": 40, "idle": 10}]
    assert rank["total"]["span_ns"] == 350


@pytest.mark.parametrize(("launched", "expected"), [(49, {"idle": 50}), (50, {"idle": 50}), (51, {"launch_bound": 50})])
def test_idleness_is_launch_bound_if_its_end_was_launched_after_it_began(
    launched: int, expected: dict[str, int], trace: Report
) -> None:
    made = Trace().step(0, 0, 200).kernel("a", 0, 50).kernel("b", 100, 200, correlation=3).launch(3, launched)
    assert parts(trace(made)["steps"][0]) == {"compute": 150, **expected}


def test_idleness_behind_the_last_activity_or_without_a_launch_is_idle(trace: Report) -> None:
    made = Trace().step(0, 0, 200).kernel("a", 0, 50).kernel("b", 100, 150, correlation=3)
    assert parts(trace(made)["steps"][0]) == {"compute": 100, "idle": 100}


def test_only_device_activities_count(trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel("gemm", 0, 10)
    made.kernel("Stream Wait Event", 10, 90, stream=-1, cat="cuda_sync")
    made.kernel("ProfilerStep#0", 0, 100, cat="gpu_user_annotation")
    made.event("triton_mm", 20, 80, stream=0)
    rank = trace(made)
    assert rank["total"]["gpu_events"] == 1
    assert (rank["total"]["span_ns"], rank["steps"][0]["busy_ns"]) == (10, 10)


def test_a_mark_on_the_gpu_is_no_step(trace: Report) -> None:
    made = Trace().kernel("ProfilerStep#7", 5, 60, cat="gpu_user_annotation").kernel("gemm", 0, 10).step(7, 0, 50)
    assert [step["step"] for step in trace(made)["steps"]] == [7]


def test_categories_of_before_2022(trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel("gemm", 0, 10, cat="Kernel").kernel("Memcpy", 20, 30, cat="Memcpy")
    made.kernel("b", 50, 60, cat="Kernel", correlation=2)
    made.event("cudaLaunchKernel", 40, 41, cat="Runtime", correlation=2)
    expected = {"compute": 20, "memcpy": 10, "launch_bound": 20, "idle": 50}
    assert parts(trace(made)["steps"][0]) == expected


@pytest.mark.parametrize(
    ("told", "kind", "payload"),
    [
        ("allreduce", "all_reduce", 2000),
        ("_allgather_base", "all_gather", 8000),
        ("all_gather_into_tensor_coalesced", "all_gather", 8000),
        ("_reduce_scatter_base", "reduce_scatter", 2000),
        ("all_to_allv", "all_to_all", 2000),
        ("broadcast", "broadcast", 2000),
        ("send", "p2p", 2000),
        ("barrier", "other_comm", 2000),
    ],
)
def test_metadata_tells_kind_size_and_group(told: str, kind: str, payload: int, trace: Report) -> None:
    made = Trace(distributed_info(0, [0, 1, 2, 3])).step(0, 0, 100)
    made.kernel(
        "ncclDevKernel_Generic", 10, 20, Collective_name=told, In_msg_nelems=1000, Out_msg_nelems=4000,
        dtype="BFloat16", Group_size=4, Process_Group_Name="0", Process_Group_Description="default_pg",
    )  # fmt: skip
    whole = trace(made)["report"]
    (row,) = whole["collectives"]
    assert (row["kind"], row["payload_bytes"], row["group"], row["ranks"]) == (
        kind,
        payload,
        "default_pg",
        [0, 1, 2, 3],
    )
    factor = {"all_reduce": 1.5, "broadcast": 1, "p2p": 1, "other_comm": 1}.get(kind, 0.75)
    assert row["wire_bytes"] == payload * factor
    assert whole["ranks"][0]["steps"][0]["comm_bytes"] == {kind: payload}


def test_metadata_of_a_kernel_may_stand_on_the_cpu(trace: Report) -> None:
    made = Trace().step(0, 0, 100).event("record_param_comms", 5, 9, External_id=7, Group_size=2, **ALL_REDUCE)
    made.kernel("ncclDevKernel_Generic", 10, 20, External_id=7).kernel("reduce_kernel", 30, 35, External_id=7)
    rank = trace(made)
    assert parts(rank["steps"][0])["all_reduce"] == 10
    assert parts(rank["steps"][0])["compute"] == 5
    assert rank["steps"][0]["comm_bytes"] == {"all_reduce": 4000}


def test_a_kernel_is_named_by_the_range_of_its_external_id(trace: Report) -> None:
    made = Trace().step(0, 0, 100).event("nccl:all_to_all", 5, 9, cat="user_annotation", External_id=3)
    made.kernel("ncclKernel_SendRecv_RING", 10, 20, External_id=3)
    assert trace(made)["steps"][0]["comm_calls"] == {"all_to_all": 1}


def test_a_kernel_is_named_by_the_range_that_launched_it(trace: Report) -> None:
    made = Trace().step(0, 0, 100).event("nccl:all_to_all", 5, 9, cat="user_annotation", External_id=3)
    made.launch(50, 6).kernel("ncclKernel_SendRecv_RING", 10, 20, correlation=50, External_id=50)
    made.event("cudaLaunchKernel", 30, 31, cat="cuda_runtime", tid=2, correlation=51)
    made.event("nccl:all_gather", 29, 40, cat="user_annotation", External_id=4)
    made.kernel("ncclKernel_SendRecv_RING", 40, 45, correlation=51)
    made.launch(52, 9).kernel("ncclKernel_SendRecv_RING", 50, 55, correlation=52)
    assert trace(made)["steps"][0]["comm_calls"] == {"all_to_all": 1, "p2p": 2}


def test_a_size_that_is_not_told_is_null_and_said(trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel("ncclDevKernel_AllReduce_Sum", 10, 20)
    whole = trace(made)["report"]
    (row,) = whole["collectives"]
    assert (row["calls"], row["payload_bytes"], row["wire_bytes"], row["group"]) == (1, None, None, "unknown")
    assert [(doubt["code"], doubt["count"]) for doubt in whole["quality"] if doubt["code"] == "sizes_unknown"] == [
        ("sizes_unknown", 1)
    ]


def test_a_list_of_ranks_that_was_cut_is_looked_up_in_the_header(trace: Report) -> None:
    cut = "[" + ", ".join(map(str, range(30))) + ", ...]"
    made = Trace(distributed_info(0, list(range(64)))).step(0, 0, 100)
    made.kernel("nccl", 0, 9, Group_size=64, Process_Group_Name="0", Process_Group_Ranks=cut, **ALL_REDUCE)
    (row,) = trace(made)["report"]["collectives"]
    assert (row["group_size"], row["ranks"]) == (64, list(range(64)))


def test_a_group_that_only_the_event_knows(trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel(
        "nccl", 0, 9, Group_size=2, Process_Group_Name="9", Process_Group_Description="mesh_tp",
        Process_Group_Ranks="[2, 3]", **ALL_REDUCE,
    )  # fmt: skip
    (row,) = trace(made)["report"]["collectives"]
    assert (row["group"], row["group_size"], row["ranks"]) == ("mesh_tp", 2, [2, 3])


def test_a_group_without_its_ranks_keeps_its_size(trace: Report) -> None:
    header = {"distributedInfo": {"rank": 0, "pg_config": [{"pg_name": "0", "pg_desc": "default_pg", "pg_size": 64}]}}
    made = Trace(header).step(0, 0, 100).kernel("nccl", 0, 9, Process_Group_Name="0", **ALL_REDUCE)
    (row,) = trace(made)["report"]["collectives"]
    assert (row["group"], row["group_size"], row["ranks"]) == ("default_pg", 64, None)


@pytest.mark.parametrize(
    "header",
    [
        {"distributedInfo": {"rank": 0, "pg_config": [None, 3, "x", {}]}},
        {"distributedInfo": {"rank": 0, "pg_config": {"pg_name": "0"}, "world_size": "many"}},
        {"distributedInfo": [1, 2], "deviceProperties": [None, 3]},
        {"distributedInfo": None, "deviceProperties": {"name": "x"}, "baseTimeNanoseconds": "now"},
        {"distributedInfo": {"rank": "zero"}, "deviceProperties": [{}]},
    ],
)
def test_a_header_of_another_shape_costs_the_header_only(header: dict[str, Any], trace: Report) -> None:
    made = Trace(header).step(0, 0, 100).kernel("nccl", 0, 9, Process_Group_Name="0", Group_size="2", **ALL_REDUCE)
    rank = trace(made)
    assert rank["rank"] == 0
    assert rank["steps"][0]["comm_bytes"] == {"all_reduce": 4000}


@pytest.mark.parametrize(
    "arguments", [{"In_msg_nelems": "many"}, {"dtype": "Q8"}, {"dtype": None}, {"In_msg_nelems": 1.5}]
)
def test_metadata_of_another_shape_costs_the_size_only(arguments: dict[str, Any], trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel("nccl", 0, 9, **{**ALL_REDUCE, **arguments})
    assert trace(made)["steps"][0]["comm_bytes"] == {"all_reduce": None}


def test_what_was_launched_before_the_trace_is_no_call_of_its_steps(trace: Report) -> None:
    made = Trace({}).step(1, 0, 100).kernel("ncclDevKernel_AllReduce", 5, 25).launch(7, 30)
    rank = trace(made.kernel("ncclDevKernel_AllReduce", 40, 50, correlation=7))
    assert rank["steps"][0]["comm_calls"] == {"all_reduce": 1}
    assert rank["steps"][0]["comm_ns"] == 30
    assert {"launches_unknown": 1}.items() <= counts(rank).items()


def test_without_any_launches_calls_count_by_when_they_ran(trace: Report) -> None:
    rank = trace(Trace({}).step(1, 0, 100).kernel("ncclDevKernel_AllReduce", 5, 25))
    assert rank["steps"][0]["comm_calls"] == {"all_reduce": 1}
    assert counts(rank)["launches_unknown"] == 1


@pytest.mark.parametrize(
    "header", [{"deviceProperties": [{"name": "H100"}]}, {"distributedInfo": {"rank": 0, "backend": "nccl"}}]
)
def test_a_job_on_gpus_without_gpu_activities_is_doubtful(header: dict[str, Any], trace: Report) -> None:
    assert "no_device_activities" in counts(trace(Trace(header).step(1, 0, 100).event("aten::mm", 10, 60)))


def test_several_processes_in_one_file_are_said_to_be(trace: Report) -> None:
    made = Trace({}).event("aten::mm", 0, 10).event("aten::mm", 5, 20)
    assert "several_processes" not in counts(trace(made))
    made.events[1]["pid"] = 2
    assert "several_processes" in counts(trace(made))


def test_several_gpus_in_one_file_are_said_to_be(trace: Report) -> None:
    made = Trace({}).step(1, 0, 100).kernel("gemm", 5, 25)
    made.events.append(made.events[-1] | {"pid": 2, "ts": 0.03})
    assert "several_devices" in counts(trace(made))


def test_a_sum_with_an_unknown_part_is_unknown(trace: Report) -> None:
    made = Trace({}).step(1, 0, 100)
    for i, dtype in enumerate(("Float", "Float4_of_tomorrow")):
        told = {"Collective_name": "allreduce", "In_msg_nelems": 100, "Out_msg_nelems": 100, "dtype": dtype}
        made.kernel("ncclDevKernel_AllReduce", 10 + 20 * i, 20 + 20 * i, **told)
    rank = trace(made)
    assert rank["steps"][0]["comm_bytes"] == {"all_reduce": None}
    (row,) = rank["report"]["collectives"]
    assert (row["calls"], row["payload_bytes"]) == (2, None)


def counts(rank: dict[str, Any]) -> dict[str, int | None]:
    return {doubt["code"]: doubt["count"] for doubt in rank["report"]["quality"]}


def test_a_launch_behind_an_inner_call_belongs_to_the_outer_one(trace: Report) -> None:
    """An old trace: the kernel's name does not tell that its send and receive are an all-to-all."""
    made = Trace({}).step(1, 0, 1000).event("nccl:all_to_all", 0, 100).event("nccl:send", 10, 20)
    made.event("cudaLaunchKernel", 50, 55, cat="cuda_runtime", correlation=7)
    made.kernel("ncclKernel_SendRecv", 200, 300, correlation=7)
    assert trace(made)["steps"][0]["comm_calls"] == {"all_to_all": 1}


@pytest.mark.parametrize("told", [{"Group_size": -1}, {"Process_Group_Ranks": "[" * 100_000}, {"Group_size": True}])
def test_a_group_that_cannot_be_is_none(told: dict[str, Any], trace: Report) -> None:
    args = {"Collective_name": "allreduce", "In_msg_nelems": 4, "dtype": "Float"} | told
    rank = trace(
        Trace({"distributedInfo": {"rank": 0, "world_size": -3}}).step(1, 0, 100).kernel("nccl", 5, 25, **args)
    )
    assert rank["report"]["collectives"][0]["wire_bytes"] is None
