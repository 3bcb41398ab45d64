"""Which rank a file is of: the header, the groups in it, the names that tools write, and numbers that are no rank."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.rank_of_file import rank_of_file

NS = "1716915232000000000"


def rank_of_name(name: str) -> int | None:
    return rank_of_file({}, PurePath(name), None)


def rank_of_header(**info: Any) -> int | None:
    return rank_of_file({"distributedInfo": info}, PurePath("trace.json"), None)


def group(*ranks: int, **fields: Any) -> dict[str, Any]:
    return {"pg_name": "0", "pg_size": len(ranks), "ranks": list(ranks)} | fields


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("iteration_10/rank0_trace.json", 0),  # torchtitan
        ("step-00010/rank12_trace.json.gz", 12),
        (f"rank5.{NS}.pt.trace.json", 5),  # tensorboard_trace_handler with a worker's name
        (f"rank_5.{NS}.pt.trace.json.gz", 5),
        (f"worker3.{NS}.pt.trace.json", 3),
        (f"worker_3.{NS}.pt.trace.json", 3),
        (f"trainer-3.{NS}.pt.trace.json", 3),
        (f"rank7_test_overlap_u2_r4.{NS}.pt.trace.json", 7),
        ("rank-0.json.gz", 0),  # HTA, Megatron
        ("rank_1.json", 1),
        ("trace-rank-3.json", 3),
        ("rank3.20.pt.trace.json", 3),  # composer: the batch follows
        ("rank0_trace_no_pyfn.json.gz", 0),  # TraceLens' examples
        ("profile_trace_rank_2.json.gz", 2),
        (f"graph_capture_rank_1.{NS}.pt.trace.json.gz", 1),
        ("bs_32_rank4.json.gz", 4),
        ("trace_rank[6].json", 6),
        ("prof_start_2_end_4_rank_9.json.gz", 9),  # verl
        (f"dp0_pp0_tp1_dcp0_ep1_rank5.{NS}.pt.trace.json.gz", 5),  # vLLM
        (f"fit-perf_logs-3.{NS}.pt.trace.json", 3),  # Lightning
        (f"validate-0.{NS}.pt.trace.json", 0),
        (f"r11-2024-11-5-10-30.{NS}.pt.trace.json.gz", 11),  # torchtune
        ("profile_6.json", 6),  # Hugging Face Accelerate
        ("worker7.json", 7),  # PARAM
        ("libkineto_trace_rank1_2911.json", 1),
        ("8gpus_world_16_rank_15.json", 15),
        ("rank=4.json", 4),
        ("RANK_4.json", 4),
        ("rank00012.json", 12),
        ("job_rank-12_0.json.gz", 12),
        ("rank0of8.json", 0),
        ("my_model_rank3.json", 3),
        ("ddp_rank3.json", 3),
        ("node_rank_1_local_rank_3_rank_11.json", 11),
        ("rank_3/trace.json", 3),
        ("rank3/iteration_10/trace.json", 3),
        ("rank/3/trace.json", 3),
        ("runs/a/ranks/00003/trace.json.gz", 3),
        (f"rank-2/node-a_2911.{NS}.pt.trace.json", 2),
    ],
)
def test_a_name_tells_the_rank(name: str, rank: int) -> None:
    assert rank_of_name(name) == rank


@pytest.mark.parametrize(
    "name",
    [
        "trace.json",
        "trace_3.json",
        "0.json",
        "step_100.json",
        "iteration_10/trace.json",
        "libkineto_trace_151419.json",  # dynolog: a process
        "libkineto_trace_job-worker-1_151419.json",  # dynolog: a host, a process
        "libkineto_activities_2911.json",
        f"node-3_2911.{NS}.pt.trace.json",  # tensorboard_trace_handler: a host, a process
        f"job-worker-1_2911.{NS}.pt.trace.json",
        f"trainer-3.cluster.local_2911.{NS}.pt.trace.json",
        f"rank.{NS}.pt.trace.json",
        f"rank{NS}.json",
        f"fit.{NS}.pt.trace.json",  # Lightning in a single process
        f"fit-run-2024.{NS}.pt.trace.json",
        "r18-2024-11-5.json",
        "1716915232-TP-3.trace.json.gz",  # SGLang
        "1716915232-TP-3-DP-1-EP-0.trace.json.gz",
        "tp_rank_3.json",
        "tp3_pp0.json",
        "mp_rank_00_trace.json",
        "pipeline-rank-2.json",
        "tensor_model_parallel_rank_1.json",
        "local_rank3.json",
        "node_rank_1.json",
        "default0.json",
        "gpu3.json",
        "lora_rank16.json",
        "low-rank-8.json",
        "pagerank3.json",
        "frank3.json",
        "ranks_8.json",
        "nranks8.json",
        "world_size_8.json",
        "8rank-2node.json",
        "num_workers_4.json",
        "num_worker4.json",
        "dataloader_worker_3.json",
        "workers4.json.gz",
        "rank0_vs_rank1.json",
        "rank_-1.json",
        "rank٣.json",
        "rank_3_experiments/trace.json",
        "node_rank_3/trace.json",
        "rank_3/a/b/trace.json",
        "worker-3/trace.json",
    ],
)
def test_other_numbers_are_no_rank(name: str) -> None:
    assert rank_of_name(name) is None


@pytest.mark.parametrize(("told", "rank"), [(3, 3), ("3", 3), (0, 0), ("007", 7)])
def test_the_header_tells_the_rank(told: object, rank: int) -> None:
    assert rank_of_header(rank=told) == rank


@pytest.mark.parametrize(
    "told", [-1, "-1", "", "three", "٣", 3.0, True, None, [3], {"of": 3}, 1 << 20, 1 << 70, "9" * 50]
)
def test_a_header_may_hold_rubbish(told: object) -> None:
    assert rank_of_header(rank=told) is None
    assert rank_of_file({"distributedInfo": {"rank": told}}, PurePath("rank2.json"), None) == 2
    assert rank_of_file({"distributedInfo": told}, PurePath("rank2.json"), None) == 2


@pytest.mark.parametrize(
    ("groups", "rank"),
    [
        ([group(5)], 5),
        ([group(0, 1, 2, 3), group(2, 3, pg_name="tp"), group(1, 3, pg_name="dp")], 3),
        ([{"pg_name": "0", "uid": 0, "backend_config": "cuda:nccl", "pg_size": 1, "ranks": [0]}], 0),  # torch 2.3
        ([group(2, 3, ranks="[2, 3]"), group(1, 3, ranks="[1, 3]")], 3),  # Kineto on demand: text
        ([group(0, 1)], None),
        ([group(0, 1), group(0, 1, pg_name="1")], None),
        ([group(0, 1), group(2, 3)], None),
        ([group(5, pg_size=8)], None),
        ([group(0, ranks="[0, 1, 2, ...]")], None),
        ([group(0, ranks="[" * 100_000)], None),
        ([group(1, ranks=[[1]])], None),
        ([group(1, ranks=[True])], None),
        ([group(), 3, None, group(4)], 4),
        ({"0": group(5)}, None),
        ("[5]", None),
    ],
)
def test_the_groups_of_a_process_may_have_one_rank_in_common(groups: object, rank: int | None) -> None:
    assert rank_of_header(pg_config=groups) == rank


def test_the_only_process_of_a_job_is_rank_0() -> None:
    assert rank_of_header(world_size=1) == 0
    assert rank_of_header(world_size=2) is None


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_a_row_and_a_column_of_a_mesh_name_the_rank(rows: int, columns: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, rows * columns - 1))
    row, column = divmod(rank, columns)
    mesh = [
        group(*range(rows * columns)),
        group(*range(row * columns, (row + 1) * columns)),
        group(*range(column, rows * columns, columns)),
    ]
    assert rank_of_header(pg_config=data.draw(st.permutations(mesh))) == rank


@pytest.mark.parametrize(
    ("expression", "rank"),
    [
        (r"gpu(\d+)", 6),
        (r"host(\d+)_gpu(?P<rank>\d+)", 6),
        (r"(?<=gpu)\d+", 6),
        (r"gpu(\w+)\.", None),
        (r"(x)?gpu", None),
        (r"card(\d+)", None),
        (r"job/host(\d+)", 2),
    ],
)
def test_an_expression_is_matched_in_the_whole_path(expression: str, rank: int | None) -> None:
    assert rank_of_file({}, PurePath("job/host2_gpu6_x.json"), re.compile(expression)) == rank


def test_the_first_source_that_tells_it_decides() -> None:
    path, expression = PurePath("rank_5/rank4.json"), re.compile(r"rank_(\d)")
    header = {"rank": 2, "pg_config": [group(3)]}
    assert rank_of_file({"distributedInfo": header}, path, expression) == 2
    assert rank_of_file({"distributedInfo": {"pg_config": [group(3)]}}, path, expression) == 3
    assert rank_of_file({}, path, expression) == 4
    assert rank_of_file({}, path.with_name("trace.json"), expression) == 5
    assert rank_of_file({}, PurePath("gpu_rank_x6/t.json"), re.compile(r"x(\d)")) == 6


@given(
    st.text(max_size=40), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
)
def test_nothing_makes_it_fail(name: str, value: object) -> None:
    header = {"rank": value, "world_size": value, "pg_config": [value, {"ranks": value, "pg_size": value}]}
    rank = rank_of_file({"distributedInfo": header}, PurePath(name), None)
    assert rank is None or rank >= 0
