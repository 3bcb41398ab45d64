"""The metrics of a training: each figure of a run on GPUs made by hand, whose values can be computed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from shardprof.study.bench.cells import Cell
from shardprof.study.bench.study_file import Length
from shardprof.study.gpus import peak_flops_per_s
from shardprof.study.metrics import METRICS, Metric, measure
from shardprof.study.metrics.measure import MEASURES
from shardprof.study.metrics.sampled import per_second
from shardprof.study.results import Measurement
from shardprof.trace.counters import Series
from shardprof.trace.schema import (
    CapturePlan,
    CounterRecord,
    Device,
    HostRecord,
    Outcome,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    to_json,
    write_whole,
)
from tests.conftest import BASE_NS, Trace, distributed_info

DOC = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
US, MS, SECOND, GIB = 1_000, 1_000_000, 1_000_000_000, 2**30
FIRST_CAPTURED, STEP_US = 4, 10_000
CELL = Cell(
    strategy="fsdp2-full", knobs="as shipped", precision="bf16", checkpointing=False, batch_size=16, accumulation=1,
    model="vit_small", ranks=2, nodes=1,
)  # fmt: skip
LENGTH = Length(name="by hand", steps=13, warm_up=4, captured=2, target_accuracy=0.9)
WALLS_MS = [[10] * 9 + [12, 10, 40, 20], [10] * 9 + [14, 10, 40, 20]]
"""Of each rank's steps: 4 and 5 are captured, 7 loses 2 ms to hooks, in 11 something is evaluated."""
WORKLOAD = {
    "flops_per_sample": 312e9 / 16, "executed_flops_per_sample": 312e9 / 12, "tokens_per_sample": 17,
    "train_images": 1600, "started_ns": BASE_NS - SECOND, "ended_ns": BASE_NS + SECOND,
}  # fmt: skip


def trace(rank: int) -> Trace:
    """Two steps of 10 ms: copies of 0.2 and 0.1 ms, 3 ms of compute, an all-gather to which rank 1 comes 1 ms late."""
    gpu = {"deviceProperties": [{"name": "NVIDIA A100-SXM4-40GB"}]}
    made = Trace(header={**distributed_info(rank, [0, 1]), **gpu})
    occupied: dict[str, Any] = {"est._achieved_occupancy_%": 50}
    gathered: dict[str, Any] = {
        "Collective_name": "_allgather_base", "dtype": "Float", "Process_Group_Name": "0",
        "In_msg_nelems": 2_500_000, "Out_msg_nelems": 5_000_000,
    }  # fmt: skip
    for number in range(2):
        at = number * STEP_US
        made.step(FIRST_CAPTURED + number, at * US, (at + STEP_US) * US)
        pinned, pageable = (f"Memcpy HtoD ({memory} -> Device)" for memory in ("Pinned", "Pageable"))
        on_gpu(made, pinned, at + 500, at + 700, category="gpu_memcpy", bytes=1_000_000)
        on_gpu(made, "gemm", at + 1000, at + 4000, **occupied)
        on_gpu(made, "ncclDevKernel_AllGather", at + (3000, 4000)[rank], at + 6000, stream=20, **gathered)
        on_gpu(made, pageable, at + 8000, at + 8100, category="gpu_memcpy", bytes=100_000)
    return made


def on_gpu(
    made: Trace, name: str, begin: int, end: int, *, stream: int = 7, category: str = "kernel", **args: Any
) -> None:
    """What a GPU does, in microseconds, launched 20 us before."""
    correlation = len(made.events)
    made.launch(correlation, (begin - 20) * US)
    made.kernel(name, begin * US, end * US, stream=stream, cat=category, correlation=correlation, **args)


def step_records(rank: int) -> list[StepRecord]:
    records, begin_ns = [], BASE_NS - FIRST_CAPTURED * STEP_US * US
    for step, wall_ms in enumerate(WALLS_MS[rank]):
        record = StepRecord(
            step=step, begin_ns=begin_ns, end_ns=begin_ns + wall_ms * MS, data_ns=MS * (1 + rank), optimizer_ns=3 * MS,
            captured=step in (4, 5), profiling=step in (3, 4, 5), hook_ns=2 * MS * (step == 7),
            cuda_memory=memory(rank, step),
        )  # fmt: skip
        records.append(record)
        begin_ns = record.end_ns
    return records


def memory(rank: int, step: int) -> dict[str, int]:
    peaks = {"allocated": (10, 12), "active": (11, 13), "reserved": (20, 16)}
    told = {f"peak_{name}_bytes": sizes[rank] * GIB for name, sizes in peaks.items()}
    return told | {"alloc_retries": rank * (1 if step < 4 else 3 if step == 12 else 2), "ooms": 0}


def samples() -> list[CounterRecord]:
    """A tenth of a second before the first step to a second after it, every 10 ms."""
    return [sample for tenth in range(-50, 100) for sample in (_host(tenth / 100), _nvml(tenth / 100))]


def _host(at_s: float) -> CounterRecord:
    ranks = {
        f"rank {rank}": {
            "rss_bytes": (2 + rank) * GIB, "uss_bytes": GIB, "threads": 7 + rank, "processes": 1 + 2 * rank,
            "voluntary_context_switches": 1000 * at_s, "involuntary_context_switches": 500 * at_s,
            "main_thread_cpu_s": 0.5 * at_s,
        }
        for rank in range(2)
    }  # fmt: skip
    links = {
        name: {"rx_bytes": rate * at_s, "tx_bytes": 2 * rate * at_s} for name, rate in (("lo", 9e9), ("eth0", 1e9))
    }
    return CounterRecord(time_ns=BASE_NS + round(at_s * SECOND), source="host", values={**ranks, **links})


def _nvml(at_s: float) -> CounterRecord:
    """GPU 1 is slowed down at 0.04 s, in step 8."""
    is_slow = at_s == 0.04
    common = {
        "utilization_percent": 90, "power_w": 300, "energy_j": 300 * at_s, "pcie_rx_bytes": 2e9 * at_s,
        "memory_used_bytes": (1 if at_s < -0.4 else 5) * GIB,
    }  # fmt: skip
    values = {
        f"gpu {index}": {**common, "sm_clock_mhz": 1200 if is_slow and index else 1400,
                         "throttle_reasons": 0x5 if is_slow and index else 0x1,
                         "ecc_uncorrected_errors": 2 * index * (at_s > 0)}
        for index in range(2)
    }  # fmt: skip
    events = {"gpu 1": ["xid 63", "throttled: sw_power_cap"]} if is_slow else {}
    return CounterRecord(time_ns=BASE_NS + round(at_s * SECOND), source="nvml", values=values, events=events)


def trial(folder: Path) -> Path:
    """The folder of a trial, by hand."""
    run = RunFolder(folder / "run")
    for rank in range(2):
        trace(rank).write(run.rank(rank) / "trace.json.gz")
        record = RankRecord(
            rank=rank, world_size=2, local_rank=rank, host="node-a", pid=1, device="cuda", device_uuid=f"GPU-{rank}",
            started_ns=BASE_NS - 300 * MS, versions={},
        )  # fmt: skip
        write_whole(run.rank(rank) / "rank.json", record)
        write_lines(run.rank(rank) / "steps.jsonl", map(to_json, step_records(rank)))
    devices = tuple(Device(subject=f"gpu {i}", name="NVIDIA A100-SXM4-40GB", uuid=f"GPU-{i}") for i in range(2))
    host = HostRecord(name="node-a", identity="a", launcher_pid=1, cpu_count=8, memory_bytes=64 * GIB, devices=devices)
    run.host("node-a").mkdir(parents=True)
    write_whole(run.host("node-a") / "host.json", host)
    write_lines(run.host("node-a") / "counters.jsonl", map(to_json, samples()))
    record_of_run = RunRecord(
        command=("train",), launcher="", started_ns=BASE_NS, plan=CapturePlan(), versions={}, environment={},
        outcome=Outcome(exit_code=0, ended_ns=BASE_NS + 1800 * SECOND),
    )  # fmt: skip
    write_whole(run.run_file, record_of_run)
    write_training(folder / "training")
    return folder


def write_training(folder: Path) -> None:
    for rank in range(2):
        lines = [
            {"step": step, "samples": 32 * step, "at_ns": BASE_NS + step, "loss": 13 - step + rank, "lr": 0.5 * step,
             "grad_norm": step, "skipped": step == 1}
            for step in range(1, 13)
        ]  # fmt: skip
        write_lines(folder / f"loss.{rank}.jsonl", map(json.dumps, lines))
    evaluated_ns = step_records(0)[11].begin_ns + 30 * MS
    tests = [(11, evaluated_ns, 0.9), (12, evaluated_ns + SECOND, 0.95)]
    lines = [{"step": step, "samples": 32 * step, "at_ns": at_ns, "accuracy": told} for step, at_ns, told in tests]
    write_lines(folder / "accuracy.jsonl", map(json.dumps, lines))
    (folder / "workload.json").write_text(json.dumps(WORKLOAD))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return measure(trial(tmp_path_factory.mktemp("by-hand")), CELL, LENGTH)


def values(measured: Measurement, name: str) -> dict[str, float | str]:
    """A metric's values by part, or why they are missing."""
    return {f.part: f.missing if f.value is None else f.value for f in measured.figures if f.name == name}


COUNTED_S = 0.0122  # (8 + 10 + 13 + 10 + 20) / 5 ms
KNOWN: dict[str, dict[str, float]] = {
    "step_time": {"p50": 10, "p95": 13 + 0.8 * 7, "max": 20},
    "throughput": {"samples_per_s": 3200, "samples_per_s_per_rank": 1600, "tokens_per_s_per_rank": 27_200},
    "epoch_time": {"": 0.5},
    "train_time": {"": 2},
    "mfu": {"": 10},
    "hfu": {"": 10 * 16 / 12},
    "gpu_util_time": {"": 90},
    "gpu_busy": {"": 50},
    "sm_efficiency_est": {"": 15},
    "compute_only": {"": 2.5, "percent": 25},
    "comm_only": {"": 2, "percent": 20},
    "overlap": {"": 0.5, "percent": 5},
    "idle": {"": 5, "percent": 50},
    "exposed_comm": {"": 2, "all_gather": 2},
    "overlap_ratio": {"": 20},
    "comm_bytes_by_op": {"": 20e6, "all_gather": 20e6},
    "wire_bytes": {"": 10e6, "all_gather": 10e6},
    "algbw": {"all_gather": 10},
    "busbw": {"all_gather": 5},
    "collective_wait": {"": 0.5, "max": 1},
    "nic_rx": {"": 1},
    "nic_tx": {"": 2},
    "pcie_rx": {"": 2},
    "gpu_mem_allocated_peak": {"": 12},
    "active_peak": {"": 13},
    "gpu_mem_reserved_peak": {"": 20},
    "gpu_mem_nvml": {"": 4},
    "fragmentation": {"": 45},
    "alloc_retries": {"": 2 / 9},
    "ooms": {"": 0},
    "cpu_rss": {"": 3},
    "cpu_uss": {"": 1},
    "proc_count": {"": 3},
    "thread_count": {"": 8},
    "ctx_switches": {"": 1500 * COUNTED_S},
    "cpu_util_main_thread": {"": 50},
    "data_wait": {"": 1.5, "percent": 100 * 15 / 122},  # rank 0: 5 of 60 ms, rank 1: 10 of 62 ms
    "h2d_time": {"": 0.3, "pinned": 0.2, "pageable": 0.1},
    "h2d_bw": {"": 1.1e6 / 300_000},
    "launch_gap": {"": (0.5 + 0.3 + 2 + 1.9 + 0.5 + 0.3 + 2) / 2},  # what comes after the last copy is not launched
    "optimizer_time": {"": 3},
    "power": {"": 300},
    "energy_per_step": {"": 300 * COUNTED_S},
    "throttle_reasons": {"": 4},
    "straggler_score": {"": 1, "rank": 1, "steps": 100},
    "loss": {"": 6},  # the ten last are 10.5 to 1.5
    "grad_norm": {"": 6.5},
    "lr": {"": 6},
    "skipped_steps": {"": 1},
    "accuracy": {"": 0.95},
    "samples_to_target": {"": 352},
    "error_rate": {"": 2 * 3},  # an Xid and two memory errors in half an hour
    "validation_error": {"": 0.05},
}


ABSENT = {
    "volume_ratio": "the strategy's settings are not told",
    "nvlink_rx": "no NVLink",
    "nvlink_tx": "no NVLink",
    "pcie_tx": "pcie_tx_bytes_per_s was not sampled",
    "pinned": "torch's host allocator is not recorded",
    "scaling_efficiency": "of several trainings: see bench report",
}


@pytest.mark.parametrize("name", KNOWN)
def test_figures_are_as_computed_by_hand(by_hand: Measurement, name: str) -> None:
    assert values(by_hand, name) == pytest.approx(KNOWN[name], rel=1e-9)


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_missing_says_why(by_hand: Measurement, name: str) -> None:
    assert values(by_hand, name) == {"": ABSENT[name]}


def test_clocks_are_means_over_counted_time(by_hand: Measurement) -> None:
    """GPU 1 is at 1,200 MHz at 0.04 s, at 1,400 MHz 10 ms before and after: on average 100 MHz less for 20 ms, of
    which step 8 to 10 have all and step 7 has none. Rank 1's counted time is 62 ms + 2 ms of hooks."""
    told = values(by_hand, "sm_clock")
    assert told["min"] == 1200
    assert told[""] == pytest.approx(1400 - 100 * 20 / 64 / 2)


def test_the_time_to_the_target_is_from_the_start_of_the_run(by_hand: Measurement) -> None:
    evaluated_ns = by_hand.accuracies[0].at_ns
    assert values(by_hand, "time_to_target") == {"": (evaluated_ns - BASE_NS + SECOND) / 1e9}


def test_every_metric_is_known_by_hand(by_hand: Measurement) -> None:
    assert {figure.name for figure in by_hand.figures} == {*KNOWN, *ABSENT, "sm_clock", "time_to_target"}


def test_the_steps_that_count(by_hand: Measurement) -> None:
    walls_ms = {step.step: step.wall_ns / MS for step in by_hand.steps if step.counts}
    assert walls_ms == {7: 8, 8: 10, 9: 13, 10: 10, 12: 20}
    assert [step.step for step in by_hand.steps] == list(range(13))


def test_the_rest_of_a_measurement(by_hand: Measurement) -> None:
    assert by_hand.workload == WORKLOAD
    assert [loss.loss for loss in by_hand.losses] == [13.5 - step for step in range(1, 13)]
    assert [loss.step for loss in by_hand.losses if loss.skipped] == [1]
    assert [accuracy.accuracy for accuracy in by_hand.accuracies] == [0.9, 0.95]
    assert by_hand.report is not None
    assert len(by_hand.report.ranks) == 2


def test_units_are_those_of_the_table(by_hand: Measurement) -> None:
    metrics = {metric.name: metric for metric in METRICS}
    assert all(figure.unit == metrics[figure.name].unit_of(figure.part) for figure in by_hand.figures)
    assert {(f.part, f.unit) for f in by_hand.figures if f.name == "idle"} == {("", "ms"), ("percent", "%")}


def test_every_metric_is_in_the_table_once_and_is_measured() -> None:
    assert {metric.number for metric in METRICS} == set(range(1, 37))
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert {metric.name for metric in METRICS} == set(MEASURES)


def test_the_page_has_the_rows_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (.+) \|$", DOC, re.MULTILINE)
    told = [(int(number), name, unit, *rest) for number, name, unit, *rest, _missing in rows]
    assert told == [(m.number, m.name, unit_in_the_page(m), m.definition, m.source) for m in METRICS]


def unit_in_the_page(metric: Metric) -> str:
    return ", ".join([metric.unit or "-", *(f"`{part}`: {unit}" for part, unit in metric.parts.items())])


def test_a_target_that_was_not_reached(tmp_path: Path) -> None:
    measured = measure(trial(tmp_path), CELL, msgspec.structs.replace(LENGTH, target_accuracy=0.99))
    assert values(measured, "time_to_target") == {"": "never reached 0.99"}
    assert values(measured, "samples_to_target") == {"": "never reached 0.99"}


@pytest.mark.parametrize(
    ("gpu", "precision", "tera"),
    [
        ("NVIDIA A100-SXM4-40GB", "bf16", 312),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "fp16", 835.5),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA L4", "fp32", 30.3),
        ("NVIDIA L40S", "bf16", 362),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
    ],
)
def test_peaks_by_name(gpu: str, precision: str, tera: float) -> None:
    assert peak_flops_per_s(gpu, precision) == tera * 1e12


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [
        ("Tesla V100-SXM2-16GB", "bf16"),
        ("NVIDIA A1000", "bf16"),
        ("NVIDIA L40", "bf16"),
        ("NVIDIA GH200 480GB", "bf16"),
    ],
)
def test_peaks_that_are_not_known(gpu: str, precision: str) -> None:
    assert peak_flops_per_s(gpu, precision) is None


Times = some.lists(some.integers(0, 1000), min_size=2, max_size=8, unique=True).map(sorted)
Spans = some.lists(some.tuples(some.integers(-200, 1200), some.integers(1, 300)), min_size=1, max_size=4)


@given(Times, some.data(), Spans)
def test_a_mean_over_spans_is_that_of_every_moment_in_them(
    times: list[int], data: some.DataObject, spans: list[tuple[int, int]]
) -> None:
    """The twin adds up the line through the samples, a millionth of a second at a time."""
    levels = data.draw(some.lists(some.integers(0, 50), min_size=len(times), max_size=len(times)))
    begins, ends = np.array(spans).T * 1000
    ends = begins + ends
    series = Series("power_w", np.array(times) * 1000, np.array(levels, dtype=float))
    total = Series("energy_j", np.array(times) * 1000, np.cumsum(levels).astype(float))
    moments = [at + 0.5 for begin, length in spans for at in range(begin, begin + length) if times[0] <= at < times[-1]]
    told = per_second(series, begins, ends)
    grown = per_second(total, begins, ends)
    if not moments:
        assert told is None
        assert grown is None
    else:
        assert told == pytest.approx(float(np.mean(np.interp(moments, times, levels))))
        after, before = (np.interp(np.array(moments) + shift, times, total.values) for shift in (0.5, -0.5))
        assert grown == pytest.approx(float((after - before).mean() * 1e6))
