"""Steps with a known cause: what they replay to without it. Times are in microseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.replay import StepGraph, step_graph
from tests.conftest import COMM, MAIN, WORKER, Trace

US = 1000
Replay = Callable[["Planted", int], StepGraph]


class Planted(Trace):
    """A trace in microseconds, of one step."""

    def cpu(self, begin: int, end: int, name: str = "aten::add", tid: int = MAIN) -> Planted:
        self.event(name, begin * US, end * US, tid=tid)
        return self

    def api(self, name: str, begin: int, end: int, correlation: int | None = None, tid: int = MAIN) -> Planted:
        arguments = {} if correlation is None else {"correlation": correlation}
        self.event(name, begin * US, end * US, cat="cuda_runtime", tid=tid, **arguments)
        return self

    def run(self, correlation: int, begin: int, end: int, stream: int = 7, name: str = "gemm") -> Planted:
        category = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        self.kernel(name, begin * US, end * US, stream=stream, cat=category, correlation=correlation)
        return self

    def launched(self, correlation: int, call: int, begin: int, end: int, stream: int = 7) -> Planted:
        """A kernel whose launch takes 4 us of the main thread."""
        return self.api("cudaLaunchKernel", call, call + 4, correlation).run(correlation, begin, end, stream)


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    """The graph of a planted trace's step, which begins at 0."""

    def graph(planted: Planted, end: int) -> StepGraph:
        planted.step(3, 0, end * US)
        trace = read_kineto(planted.write(tmp_path / "trace.json"))
        graph = step_graph(trace, 0, end * US)
        assert graph.replayed_ns() == end * US
        return graph

    return graph


def rows(graph: StepGraph, name: str) -> np.ndarray:
    found = np.flatnonzero(graph.events.named(lambda other: other == name))
    assert len(found)
    return found


def without(graph: StepGraph, name: str) -> float:
    """The step's length in microseconds without the events of a name."""
    return graph.without(rows(graph, name)) / US


def test_a_kernel_that_the_host_waits_for_costs_its_time(replay: Replay) -> None:
    graph = replay(Planted().launched(1, 10, 20, 520).api("cudaDeviceSynchronize", 20, 525), 600)
    assert without(graph, "gemm") == 600 - 500
    assert rows(graph, "gemm")[0] in graph.critical_rows()
    assert graph.explained == 1


def test_a_kernel_beside_a_longer_one_costs_nothing(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 520).api("cudaLaunchKernel", 14, 18, 2).run(2, 24, 300, 8, "hidden")
    graph = replay(planted.api("cudaDeviceSynchronize", 20, 525), 600)
    assert without(graph, "hidden") == 600
    assert without(graph, "gemm") == 600 - 220
    assert rows(graph, "hidden")[0] not in graph.critical_rows()


def test_nothing_waits_for_a_kernel_after_the_last_synchronization(replay: Replay) -> None:
    graph = replay(
        Planted().launched(1, 10, 20, 120).api("cudaDeviceSynchronize", 20, 125).launched(2, 200, 210, 900), 300
    )
    assert graph.without(rows(graph, "gemm")[1:]) == 300 * US
    assert graph.behind_ns == 600 * US


def test_where_the_host_runs_ahead_the_step_lasts_until_its_devices_are_done(replay: Replay) -> None:
    """Two kernels that are launched at once, of which the second one still runs when the host is done."""
    graph = replay(Planted().launched(1, 10, 20, 220).launched(2, 20, 225, 700), 300)
    assert without(graph, "gemm") == 300
    until_devices = graph.until_devices()
    assert until_devices.replayed_ns() == 700 * US
    assert until_devices.without(rows(graph, "gemm")[:1]) == pytest.approx((700 - 200) * US, abs=10 * US)


def test_a_launch_bound_step_gains_from_faster_launches_only(replay: Replay) -> None:
    planted = Planted()
    for i in range(20):
        planted.api("cudaLaunchKernel", 20 * i, 20 * i + 10, i).run(i, 20 * i + 8, 20 * i + 10)
    graph = replay(planted.api("cudaDeviceSynchronize", 400, 402), 402)
    assert without(graph, "gemm") == 402
    assert without(graph, "cudaLaunchKernel") == 402 - 200
    twice_as_fast = np.where(
        np.isin(graph.row, rows(graph, "cudaLaunchKernel")), graph.duration_ns // 2, graph.duration_ns
    )
    assert graph.replayed_ns(twice_as_fast) == (402 - 100) * US


def test_without_a_synchronization_the_host_goes_on(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 520).api("cudaStreamSynchronize", 14, 520).cpu(520, 900)
    graph = replay(planted.api("cudaDeviceSynchronize", 900, 905), 905)
    # The host is done after 14 + 380 us, and then waits for the kernel.
    assert without(graph, "cudaStreamSynchronize") == 520 + 5
    assert without(graph, "gemm") == 14 + 6 + 380 + 5


def test_a_range_takes_what_the_host_does_in_it_but_not_what_it_launched(replay: Replay) -> None:
    planted = Planted().next_batch(0, 300 * US).launched(1, 310, 320, 420).api("cudaDeviceSynchronize", 320, 425)
    graph = replay(planted.cpu(430, 450, "aten::item").launched(2, 435, 445, 447), 460)
    assert graph.without(rows(graph, "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__")) == 160 * US
    assert without(graph, "aten::item") == 440


def test_an_item_waits_for_the_kernels_before_it(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 520).cpu(16, 540, "aten::item").api("cudaMemcpyAsync", 18, 30, 2)
    planted.run(2, 521, 523, name="Memcpy DtoH (Device -> Pageable)").api("cudaStreamSynchronize", 32, 528)
    graph = replay(planted.cpu(540, 700), 700)
    assert without(graph, "gemm") == pytest.approx(700 - 500, abs=15)
    assert without(graph, "aten::item") == 16 + 160


@pytest.mark.parametrize("copy", ["Memcpy DtoH (Device -> Pageable)", "Memcpy HtoD (Pageable -> Device)"])
def test_a_copy_of_memory_that_is_not_pinned_holds_the_host(copy: str, replay: Replay) -> None:
    graph = replay(Planted().api("cudaMemcpyAsync", 10, 420, 1).run(1, 18, 418, name=copy), 500)
    assert without(graph, copy) == 100


def test_a_copy_of_pinned_memory_does_not(replay: Replay) -> None:
    copy = "Memcpy HtoD (Pinned -> Device)"
    graph = replay(Planted().api("cudaMemcpyAsync", 10, 420, 1).run(1, 18, 418, name=copy), 500)
    assert without(graph, copy) == 500


def test_what_a_call_does_before_its_copy_begins_is_its_own_work(replay: Replay) -> None:
    copy = "Memcpy HtoD (Pageable -> Device)"
    planted = Planted().launched(1, 0, 8, 9).launched(2, 20, 28, 29).api("cudaMemcpyAsync", 40, 445, 3)
    graph = replay(planted.run(3, 340, 440, name=copy), 500)
    assert (without(graph, copy), without(graph, "cudaMemcpyAsync")) == (400, 500 - 405)
    assert graph.explained == 1


def test_a_collective_begins_when_the_stream_it_waits_for_is_done(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 520).api("cudaStreamWaitEvent", 16, 17)
    planted.api("cudaLaunchKernel", 18, 22, 2).run(2, 522, 822, 8, "ncclDevKernel_AllReduce_Sum_f32")
    graph = replay(planted.api("cudaDeviceSynchronize", 30, 830), 900)
    assert without(graph, "gemm") == pytest.approx(900 - 500, abs=10)
    assert without(graph, "ncclDevKernel_AllReduce_Sum_f32") == pytest.approx(900 - 300, abs=10)


def test_an_optimizer_kernel_begins_when_the_collective_is_done(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 30).api("cudaLaunchKernel", 18, 22, 2)
    planted.run(2, 28, 528, 8, "ncclDevKernel_AllReduce_Sum_f32").api("cudaStreamWaitEvent", 40, 41)
    planted.api("cudaLaunchKernel", 44, 48, 3).run(3, 530, 730, 7, "adam")
    graph = replay(planted.api("cudaDeviceSynchronize", 60, 735), 800)
    assert without(graph, "ncclDevKernel_AllReduce_Sum_f32") == pytest.approx(800 - 476, abs=15)
    assert without(graph, "adam") == pytest.approx(800 - 200, abs=5)


def test_a_wait_counts_that_was_over_before_the_collective_could_begin(replay: Replay) -> None:
    planted = Planted().launched(1, 0, 10, 20).api("cudaLaunchKernel", 6, 10, 2).run(2, 16, 416, 8, "first")
    planted.launched(3, 20, 30, 330).api("cudaStreamWaitEvent", 26, 27).api("cudaLaunchKernel", 28, 32, 4)
    graph = replay(planted.run(4, 418, 718, 8, "second").api("cudaDeviceSynchronize", 40, 720), 720)
    assert without(graph, "first") == pytest.approx(330 + 300, abs=5)


def test_a_kernel_told_to_wait_waits_for_what_ended_just_before(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 30).api("cudaLaunchKernel", 18, 22, 2).run(2, 300, 528, 8, "all_gather")
    planted.api("cudaStreamWaitEvent", 40, 41).api("cudaLaunchKernel", 44, 48, 3).run(3, 530, 730, 7, "adam")
    graph = replay(planted.api("cudaDeviceSynchronize", 60, 735), 800)
    assert without(graph, "all_gather") == pytest.approx(800 - 228, abs=5)


def test_a_host_that_found_its_stream_idle_waits_if_that_becomes_slower(replay: Replay) -> None:
    graph = replay(Planted().launched(1, 10, 20, 120).api("cudaStreamSynchronize", 200, 203), 300)
    slower = np.where(np.isin(graph.row, rows(graph, "gemm")), 400 * US, graph.duration_ns)
    assert graph.replayed_ns(slower) == (420 + 3 + 97) * US


def test_a_kernel_without_room_waits_for_what_fills_the_device(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 520).api("cudaLaunchKernel", 18, 22, 2).run(2, 480, 530, 8, "late")
    graph = replay(planted.api("cudaDeviceSynchronize", 30, 535), 600)
    assert graph.explained == 1
    assert without(graph, "gemm") < 150


def test_what_nothing_explains_stays_when_all_else_goes(replay: Replay) -> None:
    planted = Planted().launched(1, 10, 20, 30).launched(2, 40, 50, 60).launched(3, 70, 480, 490)
    graph = replay(planted.api("cudaDeviceSynchronize", 100, 495), 500)
    assert graph.explained == pytest.approx(1 - 400 / 500)
    assert without(graph, "gemm") == 500 - 10
    assert graph.without_lags_ns() == 110 * US


def test_a_synchronization_that_waits_for_nothing_known_is_not_explained(replay: Replay) -> None:
    graph = replay(Planted().launched(1, 0, 10, 20).api("cudaDeviceSynchronize", 100, 900), 1000)
    assert graph.explained == pytest.approx(1 - 700 / 1000)
    assert without(graph, "cudaDeviceSynchronize") == 1000 - 800


def test_launches_into_a_full_queue_go_at_the_devices_pace(replay: Replay) -> None:
    planted = Planted()
    for i in range(400):
        planted.run(i, 10 + 200 * i, 210 + 200 * i)
        begin = 5 * i if i < 300 else 1620 + 200 * (i - 300)
        planted.api("cudaLaunchKernel", begin, begin + (4 if i < 300 else 195), i)
    graph = replay(planted, 1620 + 200 * 100)
    assert without(graph, "gemm") == 1620 + 100 * (5 + 5)
    assert graph.explained == 1


def test_backward_on_another_thread_is_waited_for(replay: Replay) -> None:
    planted = Planted().cpu(0, 100).cpu(110, 510, "autograd::engine::evaluate_function: MulBackward0", tid=WORKER)
    graph = replay(planted.launched(1, 520, 530, 531).cpu(520, 600), 600)
    assert without(graph, "autograd::engine::evaluate_function: MulBackward0") == 600 - 400
    assert without(graph, "aten::add") == 600 - 100 - 80


def test_work_of_another_thread_beside_the_main_one_costs_nothing(replay: Replay) -> None:
    planted = Planted().cpu(0, 100).cpu(90, 510, "aten::pin_memory", tid=WORKER).cpu(200, 300).cpu(400, 600)
    graph = replay(planted.launched(1, 20, 30, 31), 600)
    assert without(graph, "aten::pin_memory") == 600


def test_a_transfer_that_the_main_thread_waits_for_costs_its_time(replay: Replay) -> None:
    planted = Planted().cpu(0, 90).cpu(100, 110, "c10d::allreduce_")
    planted.event("gloo:all_reduce", 120 * US, 520 * US, tid=COMM)
    graph = replay(planted.cpu(540, 800), 800)
    assert without(graph, "gloo:all_reduce") == 800 - 400
    assert rows(graph, "gloo:all_reduce")[0] in graph.critical_rows()


def test_a_transfer_beside_compute_costs_nothing(replay: Replay) -> None:
    planted = Planted().cpu(0, 90).cpu(100, 110, "c10d::allreduce_")
    planted.event("gloo:all_reduce", 120 * US, 520 * US, tid=COMM)
    graph = replay(planted.cpu(115, 525, "aten::mm").cpu(540, 800), 800)
    assert without(graph, "gloo:all_reduce") == 800
    assert without(graph, "aten::mm") == 800 - 410


def test_a_trace_without_a_host_explains_nothing(tmp_path: Path) -> None:
    trace = read_kineto(Planted().run(1, 10, 90).write(tmp_path / "trace.json"))
    graph = step_graph(trace, 0, 100 * US)
    assert (graph.replayed_ns(), graph.explained) == (100 * US, 0)


def test_a_step_without_any_events_is_its_main_threads_time(tmp_path: Path) -> None:
    trace = read_kineto(Planted().cpu(0, 10).write(tmp_path / "trace.json"))
    graph = step_graph(trace, 20 * US, 50 * US)
    assert (graph.replayed_ns(), graph.without(np.array([0])), len(graph.critical_rows())) == (30 * US, 30 * US, 0)


CALLS = ["cudaLaunchKernel", "cudaMemcpyAsync", "cudaStreamWaitEvent", "cudaStreamSynchronize", "cudaDeviceSynchronize"]
ACTIVITIES = ["gemm", "ncclDevKernel_AllReduce_Sum_f32", "Memcpy DtoH (Device -> Pageable)"]
HOST_RANGES = ["aten::mm", "c10d::allreduce_", "autograd::engine::evaluate_function: MulBackward0", "gloo:all_reduce"]
SPANS = st.tuples(st.integers(0, 900), st.integers(0, 300))


@given(
    calls=st.lists(st.tuples(SPANS, st.sampled_from(CALLS), st.sampled_from([MAIN, WORKER])), max_size=12),
    activities=st.lists(st.tuples(SPANS, st.sampled_from(ACTIVITIES), st.integers(7, 9)), max_size=12),
    ranges=st.lists(st.tuples(SPANS, st.sampled_from(HOST_RANGES), st.sampled_from([MAIN, WORKER, COMM])), max_size=12),
    window=SPANS,
)
def test_any_trace_replays_to_the_nanosecond(
    calls: list[Any], activities: list[Any], ranges: list[Any], window: tuple[int, int]
) -> None:
    """Also one that contradicts itself."""
    planted = Planted().cpu(0, 1)
    for correlation, ((begin, lasts), name, thread) in enumerate(calls):
        planted.api(name, begin, begin + lasts, correlation, thread)
    for correlation, ((begin, lasts), name, stream) in enumerate(activities):
        planted.run(correlation, begin, begin + lasts, stream, name)
    for (begin, lasts), name, thread in ranges:
        planted.cpu(begin, begin + lasts, name, thread)
    with TemporaryDirectory() as folder:
        trace = read_kineto(planted.write(Path(folder) / "trace.json"))
    begin_ns, length_ns = window[0] * US, window[1] * US
    graph = step_graph(trace, begin_ns, begin_ns + length_ns)
    assert graph.replayed_ns() == length_ns
    assert graph.without_lags_ns() <= length_ns
    assert 0 <= graph.explained <= 1
    for rows in (graph.critical_rows(), np.arange(len(trace.events))):
        assert 0 <= graph.without(rows) <= length_ns
