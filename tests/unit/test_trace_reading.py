"""Many files at once: in order, within the jobs and the memory, whatever fails and whoever stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace import reading
from shardprof.trace.files import RemoteFile
from shardprof.trace.reading import Reading, free_memory_bytes, in_parallel, memory_cost_bytes

TIMEOUT_S = 60
LONG_S = 3600


class Watched:
    """Work that counts what of it has begun and was not yet taken from the results."""

    def __init__(self, costs: list[int]) -> None:
        self.costs = costs
        self.lock = threading.Lock()
        self.out: set[int] = set()
        self.most = 0
        self.most_cost = 0
        self.at_once = 0
        self.running = 0

    def work(self, item: int) -> int:
        with self.lock:
            self.running += 1
            self.at_once = max(self.at_once, self.running)
            self.out.add(item)
            self.most = max(self.most, len(self.out))
            if len(self.out) > 1:
                self.most_cost = max(self.most_cost, sum(self.costs[i] for i in self.out))
        with self.lock:
            self.running -= 1
        return item

    def taken(self, results: Iterator[int]) -> list[int]:
        """The results, each in use until the next one is asked for."""
        order: list[int] = []
        while (item := next(results, None)) is not None:
            order.append(item)
            with self.lock:
                self.out.discard(item)
        return order


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5), st.integers(1, 12))
def test_results_are_in_order_and_within_the_limits(costs: list[int], jobs: int, memory: int) -> None:
    watched = Watched(costs)
    how = Reading(jobs=jobs, memory_bytes=memory)
    results = in_parallel(range(len(costs)), lambda item: costs[item], watched.work, how)
    assert watched.taken(results) == list(range(len(costs)))
    assert watched.at_once <= jobs
    assert watched.most <= jobs + 1
    assert watched.most_cost <= memory


def test_jobs_work_at_once() -> None:
    barrier = threading.Barrier(3)
    how = Reading(jobs=3, memory_bytes=3)
    assert sorted(in_parallel(range(3), lambda _: 1, lambda _: barrier.wait(TIMEOUT_S), how)) == [0, 1, 2]


def test_nothing_begins_beyond_the_limit_while_the_first_result_is_in_use() -> None:
    begun: list[int] = []
    for jobs, memory, most in ((1, 100, 2), (3, 100, 4), (8, 5, 5), (8, 1, 1), (8, 0, 1)):
        begun.clear()
        results = in_parallel(range(20), lambda _: 1, begun.append, Reading(jobs=jobs, memory_bytes=memory or None))
        next(results)
        results.close()  # type: ignore[attr-defined]  # a generator
        assert begun[0] == 0
        assert len(begun) <= (most if memory else 9)


def test_a_single_item_may_exceed_the_memory_and_runs_alone() -> None:
    watched = Watched([1, 50, 1, 1])
    how = Reading(jobs=4, memory_bytes=3)
    results = in_parallel(range(4), lambda item: watched.costs[item], watched.work, how)
    assert next(results) == 0
    assert watched.out == {0}
    assert next(results) == 1
    assert watched.out == {0, 1}
    assert list(results) == [2, 3]


def test_a_failure_comes_in_its_turn() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise LookupError("item 2")
        return item

    results = in_parallel(range(5), lambda _: 1, work, Reading(jobs=4, memory_bytes=100))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LookupError, match="item 2"):
        next(results)
    assert list(results) == []


def test_a_failure_to_tell_the_cost_is_told() -> None:
    results = in_parallel([0, 1], lambda item: 1 // item, lambda item: item, Reading(jobs=2, memory_bytes=100))
    with pytest.raises(ZeroDivisionError):
        list(results)


def stop_by_closing(results: Iterator[int]) -> None:
    results.close()  # type: ignore[attr-defined]  # a generator


def stop_by_failing(results: Iterator[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", [stop_by_closing, stop_by_failing])
def test_who_stops_early_waits_for_nothing(stop: Callable[[Iterator[int]], None]) -> None:
    release = threading.Event()
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item:
            release.wait(LONG_S)
        return item

    results = in_parallel(range(10), lambda _: 1, work, Reading(jobs=2, memory_bytes=100))
    assert next(results) == 0
    stop(results)
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("shardprof-read"):
            thread.join(TIMEOUT_S)
    assert len(begun) <= 3  # what had not begun never does


def test_nothing_to_do_starts_nothing() -> None:
    assert list(in_parallel([], lambda _: 1, lambda item: item, Reading())) == []


# What reading costs, and what there is.


def test_costs_follow_the_files(tmp_path: Path) -> None:
    small, packed, plain = tmp_path / "a.json", tmp_path / "b.json.gz", tmp_path / "c.json"
    small.write_bytes(b"{}")
    for file in (packed, plain):
        with file.open("wb") as sparse:
            sparse.truncate(1 << 30)
    floor = memory_cost_bytes([small])
    assert 0 < floor < 1 << 25
    assert memory_cost_bytes([tmp_path / "gone.json"]) == floor
    assert memory_cost_bytes([packed]) > memory_cost_bytes([plain]) > floor
    assert memory_cost_bytes([packed, plain, small]) == sum(memory_cost_bytes([f]) for f in (packed, plain, small))
    assert memory_cost_bytes([RemoteFile("https://host/x.json.gz")]) > floor
    assert memory_cost_bytes([]) == 0


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a container's limits would stand."""
    monkeypatch.setattr(reading, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_container_the_machine_limits(container: Path) -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert 0 < free_memory_bytes() <= int(total.split()[1]) * 1024


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "100000000\n", "memory.current": "40000000\n"}, 60_000_000),
        ({"memory.max": "100000000", "memory.current": "90000000",
          "memory.stat": "anon 1\nfile 9\ninactive_file 50000000\nactive_file 7\n"}, 60_000_000),
        ({"memory.max": "100000000", "memory.current": "40000000", "memory.stat": "inactive_file\n"}, 60_000_000),
        ({"memory.max": "1", "memory.current": "40000000"}, 16 << 20),
    ],
)  # fmt: skip
def test_a_container_limits(files: dict[str, str], expected: int, container: Path) -> None:
    for name, text in files.items():
        (container / name).write_text(text)
    assert free_memory_bytes() == expected


@pytest.mark.parametrize("limit", ["max\n", "", "no number", "9" * 30])
def test_a_container_without_a_limit_limits_nothing(limit: str, container: Path) -> None:
    (container / "memory.max").write_text(limit)
    (container / "memory.current").write_text("1\n")
    assert free_memory_bytes() > 100_000_000
