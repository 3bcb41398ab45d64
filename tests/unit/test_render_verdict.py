"""The sentence on top of the report, and how figures are written in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shardprof.analysis.result import Result
from shardprof.render._verdict import verdict
from shardprof.render._words import percent
from shardprof.trace.quality import Quality
from shardprof.words import duration, size, time_scale

from .builders import always_on, rank, result, step


def _verdict(of: Result) -> str:
    assert of.summary is not None
    return verdict(of, of.summary)


def _of_step(device: str = "cuda", **parts_ms: float) -> str:
    return _verdict(result(rank(0, step(**parts_ms), device=device)))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"compute": 95, "idle": 5}, "Compute-bound: 95 % of a step computes."),
        (
            {"compute": 60, "p2p": 19, "launch_bound": 14, "memcpy": 7},
            "Compute-bound: 60 % of a step computes; 19 % waits for point-to-point, 14 % waits for launches.",
        ),
        (
            {"compute": 52, "all_gather": 30, "reduce_scatter": 13, "all_reduce": 1, "idle": 4},
            "Communication-bound: 44 % of a step waits for all-gather and reduce-scatter; nothing of it is overlapped, "
            "52 % computes.",
        ),
        (
            {"compute": 55, "data_loading": 34, "launch_bound": 9, "idle": 2},
            "Data-bound: 34 % of a step waits for the DataLoader; 55 % computes.",
        ),
        (
            {"compute": 40, "launch_bound": 52, "idle": 8},
            "Launch-bound: for 52 % of a step the GPU waits for the CPU to launch work; 40 % computes.",
        ),
        (
            {"compute": 30, "memcpy": 65, "memset": 5},
            "Copy-bound: 70 % of a step only copies or sets memory; 30 % comp",
        ),
        ({"compute": 1, "idle": 999}, "Mostly idle: for >99 % of a step nothing runs on the GPU."),
    ],
)
def test_the_largest_loss_that_matters_is_named(parts: dict[str, float], sentence: str) -> None:
    assert _of_step(**parts).startswith(sentence)


def test_on_a_cpu_compute_is_operators_and_idleness_is_no_gpu() -> None:
    assert _of_step("cpu", compute=95, idle=5) == "Compute-bound: 95 % of a step computes (operators on the CPU)."
    assert "GPU" not in _of_step("cpu", compute=30, idle=70)


def test_the_cpu_side_of_a_job_on_gpus_is_not_called_compute() -> None:
    doubt = Quality(code="no_device_activities", message="")
    sentence = _verdict(result(rank(0, step(compute=95, idle=5), device="cpu"), quality=(doubt,)))
    assert sentence == (
        "Only the CPU's side was recorded: for 95 % of a step operators run there, but in a job on GPUs they launch "
        "work rather than do it; what the GPUs did is not known."
    )


def test_a_whole_trace_is_not_called_a_step() -> None:
    whole = result(rank(0, step(compute=95, idle=5)), step_source="whole trace")
    assert _verdict(whole) == "Compute-bound: 95 % of the trace computes."


def test_overlap_is_told_with_its_share() -> None:
    half_hidden = replace(step(compute=50, all_reduce=50), comm_ns=100, overlap_ns=25)
    assert "; 25 % of all communication is overlapped, 50 % computes." in _verdict(result(rank(0, half_hidden)))


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ({"data": 40, "forward": 20}, "Data-bound: 40 % of a step waits for the DataLoader; no step was captured."),
        (
            {"data": 1, "forward": 24, "backward": 60},
            "No step was captured; a step spends 1 % in data loading, 24 % in forward and 60 % in backward on the main "
            "thread.",
        ),
        ({}, "No step was captured."),
    ],
)
def test_without_a_capture_it_rests_on_the_records(phases: dict[str, Any], sentence: str) -> None:
    assert _verdict(result(rank(0, device=None, always_on=always_on(100, **phases)))) == sentence


def test_nothing_is_invented_where_there_is_nothing() -> None:
    assert _verdict(result(rank(0, device=None))).startswith("Nothing to explain: the trace holds no operators")
    assert _verdict(result(rank(0, step(empty=True, idle=5)))).startswith("Nothing to explain: no captured step")


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.0001, "<1 %"), (0.434, "43 %"), (0.9999, ">99 %"), (1, "100 %")]
)
def test_percent_never_rounds_to_nothing_or_everything(share: float, text: str) -> None:
    assert percent(share) == text


def test_figures_have_three_digits_and_a_unit() -> None:
    assert [duration(ns) for ns in (0, 999, 17_940, 1_300_000, 412_400_000, 43_425_365_000)] == [
        "0 ns",
        "999 ns",
        "17.9 µs",
        "1.30 ms",
        "412 ms",
        "43.4 s",
    ]
    assert [size(n) for n in (12, 19_360, 23_379_024)] == ["12 B", "19.4 kB", "23.4 MB"]


def test_a_column_shares_unit_and_decimals() -> None:
    scale = time_scale([412e6, 3.2e6, 0.04e6])
    assert scale.unit == "ms"
    assert [scale.figure(value) for value in (412e6, 3.2e6, 0.04e6, 0)] == ["412", "3", "<1", "0"]
