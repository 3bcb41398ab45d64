"""What a trace of a job on CPUs tells: real operators, gloo's transfers, and the calls and groups behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import COMM, MAIN, WORKER, Trace, distributed_info

Report = Callable[[Trace], dict[str, Any]]

TWO_RANKS = distributed_info(0, [0, 1])
# Two by two ranks: "1" shards, "2" replicates; both have two ranks.
TWO_BY_TWO = distributed_info(0, [0, 1, 2, 3], [0, 1], [0, 2])


def parts(step: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in step["partition_ns"].items() if value}


def rows(rank: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (row["kind"], row["ranks"], row["calls"], row["payload_bytes"], row["wire_bytes"])
        for row in rank["report"]["collectives"]
    ]


def test_compute_is_operators_and_not_what_is_around_them(trace: Report) -> None:
    made = Trace().step(0, 0, 100)
    made.event("AddmmBackward0", 0, 90).event("autograd::engine::evaluate_function: AddmmBackward0", 0, 90)
    made.event("RegisterPostBackwardFunctionBackward", 0, 90).event("FSDP::pre_forward", 0, 90, cat="user_annotation")
    made.event("_c10d_functional::wait_tensor", 0, 90)
    made.event("aten::mm", 10, 30, tid=WORKER).event("fsdp::copy_", 40, 45).event("torch_ops::my_op", 50, 60)
    rank = trace(made)
    assert parts(rank["steps"][0]) == {"compute": 35, "idle": 65}
    assert rank["device"] == "cpu"


def test_operators_on_a_communication_thread_are_none(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).transfer("all_reduce", 10, 50, 1000)
    made.event("aten::add_", 20, 30, tid=COMM).event("aten::mm", 40, 60)
    (step,) = trace(made)["steps"]
    assert parts(step) == {"compute": 20, "all_reduce": 30, "idle": 50}
    assert step["overlapped_ns"] == {"all_reduce": 10}


def test_a_send_on_the_main_thread_does_not_make_it_a_communication_thread(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).event("aten::mm", 0, 30).transfer("send", 40, 50, 10, tid=MAIN)
    made.event("aten::mm", 60, 80)
    (step,) = trace(made)["steps"]
    assert parts(step) == {"compute": 50, "p2p": 10, "idle": 40}


def test_compute_inside_the_dataloader_is_data_loading(trace: Report) -> None:
    made = Trace().step(0, 0, 100).next_batch(0, 40).event("aten::stack", 10, 30).event("aten::mm", 50, 90)
    (step,) = trace(made)["steps"]
    assert parts(step) == {"compute": 40, "data_loading": 40, "idle": 20}
    assert step["compute_ns"] == step["busy_ns"] == 40


def test_compute_of_another_thread_goes_on_while_the_main_one_loads(trace: Report) -> None:
    made = Trace().step(0, 0, 100).next_batch(0, 40).event("aten::mm", 10, 30, tid=WORKER)
    assert parts(trace(made)["steps"][0]) == {"compute": 20, "data_loading": 20, "idle": 60}


def test_loading_on_another_thread_is_no_data_loading(trace: Report) -> None:
    made = Trace().step(0, 0, 100).next_batch(0, 40, tid=WORKER).event("aten::mm", 50, 60)
    assert parts(trace(made)["steps"][0]) == {"compute": 10, "idle": 90}


def test_gloo_carries_a_reduce_scatter_as_an_all_reduce(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100)
    made.call("_reduce_scatter_base_", 0, [500], [1000]).transfer("all_reduce", 10, 30, 1000)
    made.call("_allgather_base_", 40, [2000], [1000]).transfer("all_gather", 50, 60, 1000)
    rank = trace(made)
    assert rows(rank) == [("all_gather", [0, 1], 1, 8000, 4000), ("reduce_scatter", [0, 1], 1, 4000, 4000)]
    assert parts(rank["steps"][0]) == {"all_gather": 10, "reduce_scatter": 20, "idle": 70}


def test_a_gloo_that_scatters_sends_less(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100)
    made.call("_reduce_scatter_base_", 0, [500], [1000]).transfer("reduce_scatter", 10, 30, 1000)
    assert rows(trace(made)) == [("reduce_scatter", [0, 1], 1, 4000, 2000)]


def test_an_all_reduce_and_a_reduce_scatter_of_one_size_are_told_apart_by_order(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100)
    made.call("allreduce_", 0, [[1000]]).transfer("all_reduce", 5, 15, 1000)
    made.call("_reduce_scatter_base_", 20, [500], [1000]).transfer("all_reduce", 25, 45, 1000)
    made.call("allreduce_", 50, [[1000]]).transfer("all_reduce", 55, 85, 1000)
    assert parts(trace(made)["steps"][0]) == {"reduce_scatter": 20, "all_reduce": 40, "idle": 40}


def test_transfers_of_different_sizes_may_overtake_one_another(trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100)
    made.in_group("1", 0, 4).call("_reduce_scatter_base_", 1, [500], [1000])
    made.in_group("2", 5, 9).call("allreduce_", 6, [[500]])
    made.transfer("all_reduce", 10, 20, 500).transfer("all_reduce", 12, 40, 1000, tid=COMM + 1)
    rank = trace(made)
    assert rows(rank) == [("reduce_scatter", [0, 1], 1, 4000, 4000), ("all_reduce", [0, 2], 1, 2000, 2000)]
    assert parts(rank["steps"][0]) == {"reduce_scatter": 28, "all_reduce": 2, "idle": 70}


def test_marks_tell_groups_of_one_size_apart(trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100)
    made.in_group("1", 0, 4).call("_allgather_base_", 1, [2000], [1000]).transfer("all_gather", 5, 9, 1000)
    made.in_group("2", 20, 24).call("_allgather_base_", 21, [2000], [1000]).transfer("all_gather", 25, 29, 1000)
    assert rows(trace(made)) == [("all_gather", [0, 1], 1, 8000, 4000), ("all_gather", [0, 2], 1, 8000, 4000)]


def test_without_a_mark_the_shapes_tell_a_groups_size_only(trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100).call("_allgather_base_", 1, [2000], [1000])
    made.transfer("all_gather", 5, 9, 1000)
    assert rows(trace(made)) == [("all_gather", None, 1, 8000, 4000)]


def test_without_a_mark_the_shapes_tell_the_only_group_of_that_size(trace: Report) -> None:
    made = Trace(distributed_info(0, [0, 1, 2, 3], [0, 2])).step(0, 0, 100)
    made.call("_allgather_base_", 1, [2000], [1000]).transfer("all_gather", 5, 9, 1000)
    assert rows(trace(made)) == [("all_gather", [0, 2], 1, 8000, 4000)]


def test_a_transfer_whose_call_came_before_the_trace_began(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).transfer("all_reduce", 1, 5, 1000)
    made.call("_reduce_scatter_base_", 10, [500], [1000]).transfer("all_reduce", 20, 30, 1000)
    made.call("_reduce_scatter_base_", 40, [500], [1000]).transfer("all_reduce", 50, 60, 1000)
    (step,) = trace(made)["steps"]
    assert step["comm_calls"] == {"all_reduce": 1, "reduce_scatter": 2}
    assert parts(step) == {"all_reduce": 4, "reduce_scatter": 20, "idle": 76}


def test_a_call_counts_in_the_step_that_launched_it(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 50).step(1, 50, 100).event("aten::mm", 0, 100)
    made.call("allreduce_", 40, [[1000]]).transfer("all_reduce", 60, 70, 1000)
    first, second = trace(made)["steps"]
    assert (first["comm_calls"], second["comm_calls"]) == ({"all_reduce": 1}, {})
    assert (first["comm_ns"], second["comm_ns"]) == (0, 10)


def test_without_shapes_calls_are_counted_and_sizes_are_not_told(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100)
    made.call("_reduce_scatter_base_", 0).transfer("all_reduce", 5, 15)
    made.call("_allgather_base_", 20).transfer("all_gather", 25, 45)
    rank = trace(made)
    assert rows(rank) == [("all_gather", [0, 1], 1, None, None), ("reduce_scatter", [0, 1], 1, None, None)]
    assert [doubt["count"] for doubt in rank["report"]["quality"] if doubt["code"] == "sizes_unknown"] == [2]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float", 4), ("double", 8), ("c10::BFloat16", 2), ("c10::Half", 2), ("long int", 8), ("bool", 1)],
)
def test_payload_is_elements_times_their_size(dtype: str, size: int, trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).call("allreduce_", 0, [[30]])
    made.event("gloo:all_reduce", 5, 15, tid=COMM, Input_Dims=[[30]], Input_type=[dtype])
    assert rows(trace(made)) == [("all_reduce", [0, 1], 1, 30 * size, 30 * size)]


def test_without_a_mark_the_group_of_an_all_reduce_is_known_only_where_there_is_one(trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100).call("allreduce_", 0, [[1000]]).transfer("all_reduce", 5, 15, 1000)
    rank = trace(made)
    assert rows(rank) == [("all_reduce", None, 1, 4000, None)]
    assert "groups_unknown" in [doubt["code"] for doubt in rank["report"]["quality"]]


def test_a_call_without_a_mark_is_of_the_group_whose_thread_carries_it(trace: Report) -> None:
    """DTensor launches from C++, in no range, as for the norm of FSDP2's gradients. A group has threads of its own."""
    made = Trace(TWO_BY_TWO).step(0, 0, 100)
    made.in_group("1", 0, 4).call("allreduce_", 1, [[2000]]).transfer("all_reduce", 5, 9, 2000)
    made.in_group("2", 20, 24).call("allreduce_", 21, [[500]]).transfer("all_reduce", 25, 29, 500, tid=COMM + 1)
    made.call("allreduce_", 31, [[10]]).transfer("all_reduce", 35, 39, 10)
    made.call("allreduce_", 41, [[20]]).transfer("all_reduce", 45, 49, 20, tid=COMM + 1)
    assert rows(trace(made)) == [("all_reduce", [0, 1], 2, 8040, 8040), ("all_reduce", [0, 2], 2, 2080, 2080)]


def test_a_thread_that_carries_two_groups_tells_none(trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100)
    made.in_group("1", 0, 4).call("allreduce_", 1, [[2000]]).transfer("all_reduce", 5, 9, 2000)
    made.in_group("2", 20, 24).call("allreduce_", 21, [[500]]).transfer("all_reduce", 25, 29, 500)
    made.call("allreduce_", 31, [[10]]).transfer("all_reduce", 35, 39, 10)
    assert ("all_reduce", None, 1, 40, None) in rows(trace(made))


@pytest.mark.parametrize("name", ["send", "recv_", "reduce_"])
def test_marks_name_the_group_of_every_kind_of_call(name: str, trace: Report) -> None:
    made = Trace(TWO_BY_TWO).step(0, 0, 100).event("shardprof::group 1", 0, 4).call(name, 1, [[1000]])
    (row,) = rows(trace(made.transfer(name.rstrip("_"), 5, 15, 1000)))
    assert row[1] == [0, 1]


@pytest.mark.parametrize("name", ["allreduce_", "broadcast_", "_allgather_base_"])
def test_a_rank_alone_sends_nothing(name: str, trace: Report) -> None:
    transfer = {"allreduce_": "all_reduce", "broadcast_": "broadcast"}.get(name, "all_gather")
    made = Trace(distributed_info(0, [0])).step(0, 0, 100).call(name, 0, [1000]).transfer(transfer, 5, 15, 1000)
    (row,) = trace(made)["report"]["collectives"]
    assert (row["payload_bytes"], row["wire_bytes"]) == (4000, 0)


def test_without_groups_in_the_header_the_world_is_the_group(trace: Report) -> None:
    made = Trace({"distributedInfo": {"rank": 0, "world_size": 4}}).step(0, 0, 100)
    made.call("allreduce_", 0, [[1000]]).transfer("all_reduce", 5, 15, 1000)
    assert rows(trace(made)) == [("all_reduce", [0, 1, 2, 3], 1, 4000, 6000)]


def test_an_all_gather_into_a_list_of_tensors(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).call("allgather_", 0, [], [[1000]]).transfer("all_gather", 5, 15, 1000)
    assert rows(trace(made)) == [("all_gather", [0, 1], 1, 8000, 4000)]


@pytest.mark.parametrize("name", ["barrier", "gather", "scatter", "reduce"])
def test_other_collectives_are_other(name: str, trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).call(f"{name}_", 0, [[10]]).transfer(name, 5, 15, 10)
    assert parts(trace(made)["steps"][0]) == {"other_comm": 10, "idle": 90}


def test_a_barrier_carries_nothing_and_that_is_no_doubt(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).call("barrier", 0, [1]).transfer("barrier", 5, 15)
    rank = trace(made)
    assert rows(rank) == [("other_comm", [0, 1], 1, 0, 0)]
    assert "sizes_unknown" not in [doubt["code"] for doubt in rank["report"]["quality"]]


def test_a_single_number_has_a_size(trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).call("allreduce_", 0, [[]])
    made.event("gloo:all_reduce", 5, 15, tid=COMM, Input_Dims=[[]], Input_type=["float"])
    assert rows(trace(made)) == [("all_reduce", [0, 1], 1, 4, 4)]


@pytest.mark.parametrize("shapes", [5, "x", [None], [[None]], [["a"]], {"a": 1}, [[-1]], [[True]], [[10**30]]])
def test_shapes_of_another_form_cost_the_size_only(shapes: Any, trace: Report) -> None:
    made = Trace(TWO_RANKS).step(0, 0, 100).event("c10d::allreduce_", 0, 2, Input_Dims=shapes, Input_type=shapes)
    made.event("gloo:all_reduce", 5, 15, tid=COMM, Input_Dims=shapes, Input_type=shapes)
    assert trace(made)["steps"][0]["comm_calls"] == {"all_reduce": 1}
