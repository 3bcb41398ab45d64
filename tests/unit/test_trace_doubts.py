"""What is doubtful about device events and steps; and that nothing is about healthy traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.engine import ABSENT, NOTHING
from shardprof.trace.device_doubts import (
    device_doubts,
    lost_timestamps,
    unserved_launches,
    without_lost_timestamps,
)
from shardprof.trace.events import Events
from shardprof.trace.gpu_activities import gpu_activities
from shardprof.trace.groups import GroupTable
from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.quality import Quality
from shardprof.trace.step_doubts import step_doubts
from shardprof.trace.steps import find_steps
from tests.conftest import Trace
from tests.unit.test_trace_periodicity import PLACE, RECORDED, STEP, public, training

MS = 1_000_000
FAR = 10**13


def doubts(made: Trace | Path, folder: Path) -> list[Quality]:
    trace = read_kineto(made.write(folder / "trace.json") if isinstance(made, Trace) else made)
    assert trace.activities is not None
    return [*device_doubts(trace.events, trace.activities), *step_doubts(trace, find_steps(trace, ()))]


def counts(made: Trace, folder: Path) -> dict[str, int | None]:
    return {doubt.code: doubt.count for doubt in doubts(made, folder)}


def events_at(*spans: tuple[int, int]) -> Events:
    begin_ns, end_ns = (np.array([span[i] for span in spans], dtype=np.int64) for i in (0, 1))
    zeros = np.zeros(len(spans), dtype=np.uint32)
    return Events(
        begin_ns=begin_ns, end_ns=end_ns, name=zeros, category=zeros, thread=zeros,
        correlation=np.full(len(spans), ABSENT), external_id=np.arange(len(spans)),
        stream=np.full(len(spans), ABSENT), names=("gemm",), categories=("kernel",), threads=("0/7",),
        detail_row=np.arange(len(spans), dtype=np.uint32), detail=np.arange(len(spans), dtype=np.uint32),
        shape=np.zeros(len(spans), dtype=np.uint32),
        detail_sequence=np.full(len(spans), ABSENT),
        details=tuple({"row": row} for row in range(len(spans))),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spans", "lost"),
    [
        ([(FAR, FAR + 9), (0, 0), (FAR + 20, FAR + 30)], [1]),
        ([(0, FAR + 5), (FAR, FAR + 9), (0, 0)], [0, 2]),
        ([(0, 5), (7, 9)], []),  # the trace begins with its clock
        ([(0, 0), (0, 0)], []),
        ([(-FAR, -FAR + 5), (0, 9)], []),
        ([], []),
    ],
)
def test_a_time_of_zero_is_lost_where_nothing_else_is_near(spans: list[tuple[int, int]], lost: list[int]) -> None:
    assert np.flatnonzero(lost_timestamps(events_at(*spans))).tolist() == lost


def test_events_without_a_time_are_left_out() -> None:
    kept, (doubt,) = without_lost_timestamps(events_at((FAR, FAR + 9), (0, 0), (FAR + 20, FAR + 30)), "trace.json")
    assert kept.begin_ns.tolist() == [FAR, FAR + 20]
    assert kept.external_id.tolist() == [0, 2]
    assert [kept.arguments(row) for row in (0, 1, 2)] == [{"row": 0}, {"row": 2}, {}]
    assert (doubt.code, doubt.count) == ("zero_timestamps", 1)


def test_events_with_times_stay_as_they_are() -> None:
    events = events_at((5, 9), (10, 20))
    assert without_lost_timestamps(events, "trace.json") == (events, [])


def test_work_that_lasts_into_later_work_of_its_stream(tmp_path: Path) -> None:
    made = Trace({}).step(1, 0, 90 * MS).kernel("overrun", 0, 80 * MS).kernel("b", 10 * MS, 20 * MS)
    made.kernel("c", 30 * MS, 40 * MS).kernel("beside", 0, 85 * MS, stream=8)
    (doubt,) = doubts(made, tmp_path)
    assert (doubt.code, doubt.count) == ("stream_overlaps", 1)
    assert "70 ms too long; the worst, on stream 7, by 70 ms" in doubt.message


@pytest.mark.parametrize(
    ("second", "arguments"),
    [
        ((9 * MS, 20 * MS), {}),  # begins before the first ends: a programmatic dependent launch
        ((2 * MS, 10 * MS - 1000), {}),  # within the clocks' granularity
        ((2 * MS, 5 * MS), {"correlation": 4}),  # of parallel branches of one graph
        ((10 * MS, 10 * MS), {}),
    ],
)
def test_what_streams_do_is_no_doubt(second: tuple[int, int], arguments: dict[str, Any], tmp_path: Path) -> None:
    made = Trace({}).step(1, 0, 90 * MS).kernel("a", 0, 10 * MS, **arguments).kernel("b", *second, **arguments)
    assert doubts(made, tmp_path) == []


def test_an_overrun_that_changes_no_figure_is_no_doubt(tmp_path: Path) -> None:
    made = Trace({}).step(1, 0, 999 * MS).kernel("a", 0, 5 * MS).kernel("b", 2 * MS, 4 * MS)
    assert doubts(made.kernel("long", 10 * MS, 900 * MS), tmp_path) == []


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 20), st.integers(0, 20)), max_size=12))
def test_overlaps_are_those_of_a_simple_twin(spans: list[tuple[int, int, int]]) -> None:
    """Times are in units of 10 µs; a twin that looks at each pair."""
    unit = 10_000
    rows = sorted((stream, begin, -(begin + length)) for stream, begin, length in spans)
    overrun: dict[int, int] = {}
    for i, (stream, begin, minus_end) in enumerate(rows):
        before = [j for j in range(i) if rows[j][0] == stream]
        if before:
            owner = max(before, key=lambda j: (-rows[j][2], j))
            if -rows[owner][2] > -minus_end:
                overrun.setdefault(owner, -rows[owner][2] - begin)
    events = events_at(*[(begin * unit, -minus_end * unit) for _, begin, minus_end in rows])
    streams = np.array([stream for stream, _, _ in rows], dtype=np.uint32)
    events = replace(events, thread=streams, threads=("0/0", "0/1", "0/2"))
    busy = {time for _, begin, minus_end in rows for time in range(begin, -minus_end)}
    found = device_doubts(events, gpu_activities(events, GroupTable({}), NOTHING))
    expected = [len(overrun)] if sum(overrun.values()) > 0.01 * len(busy) else []
    assert [doubt.count for doubt in found if doubt.code == "stream_overlaps"] == expected


def launching(answered: str, name: str = "cudaLaunchKernel", end: int = 1) -> Trace:
    """Calls that launch, 10 ns apart: a kernel answers each K."""
    made = Trace({}).step(1, 0, 10 * len(answered) + 900)
    for i, answer in enumerate(answered):
        made.event(name, 10 * i, 10 * i + end, cat="cuda_runtime", correlation=i)
        if answer == "K":
            made.kernel("gemm", 800 + 10 * i, 805 + 10 * i, correlation=i)
    return made


@pytest.mark.parametrize(
    "name", ["cudaLaunchKernel", "cuLaunchKernelEx", "hipExtModuleLaunchKernel", "cudaGraphLaunch"]
)
def test_launches_that_nothing_came_of(name: str, tmp_path: Path) -> None:
    made = launching("K-K-K", name=name)
    (doubt,) = [doubt for doubt in doubts(made, tmp_path) if doubt.code == "launches_without_kernels"]
    assert doubt.count == 2
    assert ("2 of them launches of whole graphs" in doubt.message) == (name == "cudaGraphLaunch")


def test_the_last_launches_and_copies_of_nothing_are_no_doubt(tmp_path: Path) -> None:
    assert counts(launching(40 * "K" + "-"), tmp_path) == {}
    assert counts(launching("K-K", name="cudaMemsetAsync"), tmp_path) == {}
    assert counts(launching("K-K", name="cudaLaunchHostFunc"), tmp_path) == {}


def test_launches_into_a_graph_that_is_captured_start_nothing(tmp_path: Path) -> None:
    made = launching("K--K")
    for name, begin in (("cudaStreamBeginCapture", 8), ("cudaStreamEndCapture", 28)):
        made.event(name, begin, begin + 1, cat="cuda_runtime")
    assert counts(made, tmp_path) == {}


def test_a_call_inside_a_call_is_one_launch(tmp_path: Path) -> None:
    made = launching("KKK", end=6)
    for i in range(3):
        made.event("cuLaunchKernel", 10 * i + 2, 10 * i + 4, cat="cuda_driver", correlation=100 + i)
    trace = read_kineto(made.write(tmp_path / "trace.json"))
    assert trace.activities is not None
    rows, unserved = unserved_launches(trace.events, trace.activities)
    assert (len(rows), int(unserved.sum())) == (6, 0)


def test_kernels_longer_than_any_step(tmp_path: Path) -> None:
    made = Trace({}).step(1, 0, 10 * MS).step(2, 10 * MS, 30 * MS).kernel("a", 0, 21 * MS).kernel("b", 22 * MS, 30 * MS)
    (doubt,) = doubts(made, tmp_path)
    assert (doubt.code, doubt.count) == ("kernels_longer_than_step", 1)
    assert "(20 ms), up to 21 ms" in doubt.message


def stepping(kernels: str, last_step: int = 100) -> Trace:
    """Steps of 100 ns with ten operators each, and a kernel in each K."""
    made = Trace({})
    for i, kernel in enumerate(kernels):
        end = 100 * i + (last_step if i == len(kernels) - 1 else 100)
        made.step(i, 100 * i, end)
        for begin in range(100 * i, end, 10):
            made.event("aten::mm", begin, begin + 5)
        if kernel == "K":
            made.kernel("gemm", 100 * i + 20, 100 * i + 70)
    return made


def test_steps_whose_device_events_are_missing(tmp_path: Path) -> None:
    assert counts(stepping("K-K--"), tmp_path) == {"steps_without_device_events": 3}
    assert counts(stepping("KK-", last_step=20), tmp_path) == {}  # the loader had run out
    assert counts(stepping("--"), tmp_path) == {}  # no GPU


def test_a_step_at_the_end_whose_kernels_were_not_recorded(tmp_path: Path) -> None:
    made = Trace({})
    for i in range(30):
        if i % 10 == 0:
            made.step(i // 10, 10 * i, 10 * i + 100)
        made.launch(i, 10 * i + 2)
        if i < 25:
            made.kernel("gemm", 10 * i + 4, 10 * i + 8, correlation=i)
    assert counts(made, tmp_path) == {"clipped_windows": 1}


def test_cut_off_cycles_are_counted(tmp_path: Path) -> None:
    assert counts(training(4, STEP), tmp_path) == {}
    whole = training(4, STEP)
    begin, end = 2 * 20, 2 * (4 * len(STEP) - 20)
    cut = Trace({}, whole.events[begin:end])
    trace = read_kineto(cut.write(tmp_path / "trace.json"))
    found = find_steps(trace, ())
    assert (found.source, len(found.windows)) == ("whole trace", 1)  # two cycles are none
    longer = Trace({}, training(6, STEP).events[begin : end + 4 * len(STEP)])
    assert counts(longer, tmp_path) == {"clipped_windows": 2}


def test_a_first_step_that_the_trace_begins_in(tmp_path: Path) -> None:
    made = Trace({})
    for i in range(5, 40):
        made.event("aten::mm", 10 * i, 10 * i + 5)
        if i % 10 == 9:
            made.event("Optimizer.step#SGD.step", 10 * i + 6, 10 * i + 9, cat="user_annotation")
    (doubt,) = doubts(made, tmp_path)
    assert (doubt.code, doubt.count) == ("clipped_windows", 1)
    assert "holds 50 % of the usual work" in doubt.message


@pytest.mark.parametrize("trace", RECORDED, ids=lambda trace: "-".join(trace.parts[-4::2]))
def test_nothing_is_doubtful_about_recorded_traces(trace: Path, tmp_path: Path) -> None:
    assert doubts(trace, tmp_path) == []


NAMES = sorted(str(file.relative_to(PLACE)) for file in PLACE.rglob("*.json.gz")) if PLACE.exists() else []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("stragglers")])
def test_nothing_is_doubtful_about_public_traces(name: str, tmp_path: Path) -> None:
    assert not lost_timestamps(read_kineto(public(name)).events).any()
    assert doubts(public(name), tmp_path) == []
