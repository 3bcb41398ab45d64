"""What the records of every step and the counters of a node tell, and how ranks are taken together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardprof.analysis import always_on
from shardprof.analysis.links import link_bytes
from shardprof.trace.counters import counters_of
from shardprof.trace.schema import CounterRecord, StepRecord
from tests.conftest import Trace, distributed_info

Report = Callable[..., dict[str, Any]]


def step(number: int, wall_ns: int, **more: Any) -> StepRecord:
    return StepRecord(step=number, begin_ns=1000 * number, end_ns=1000 * number + wall_ns, **more)


def test_the_first_step_and_disturbed_ones_are_left_out() -> None:
    steps = [step(0, 900), step(1, 100, data_ns=10), step(2, 800, captured=True), step(3, 700, hook_ns=500)]
    found = always_on.summary([*steps, step(4, 300, data_ns=20), step(5, 200, hook_ns=2)])
    assert found is not None
    assert (found.steps, found.usual_steps, found.wall_ns) == (6, 3, 200)
    assert (found.slowest_step, found.slowest_wall_ns) == (4, 300)
    assert (found.data_ns, found.forward_ns) == (15, None)


def test_of_fewer_than_three_steps_none_is_the_slowest() -> None:
    found = always_on.summary([step(0, 900), step(1, 100), step(2, 800, captured=True), step(3, 300)])
    assert found is not None
    assert (found.usual_steps, found.wall_ns) == (2, 200)
    assert (found.slowest_step, found.slowest_wall_ns) == (None, None)


def test_where_nothing_else_remains_disturbed_steps_are_used() -> None:
    captured = always_on.summary([step(0, 900), step(1, 100, captured=True)])
    assert captured is not None
    assert (captured.usual_steps, captured.wall_ns) == (1, 100)
    first = always_on.summary([step(0, 900)])
    assert first is not None
    assert first.wall_ns == 900
    assert always_on.summary([]) is None


def samples(*pairs: tuple[int, float], interface: str = "eth0") -> list[CounterRecord]:
    return [CounterRecord(time_ns=time, source="host", values={interface: {"tx_bytes": sent}}) for time, sent in pairs]


@pytest.mark.parametrize(
    ("begin_ns", "end_ns", "expected"),
    [(100, 300, 2000), (150, 250, 1000), (100, 100, 0), (120, 130, 100), (99, 200, None), (200, 301, None)],
)
def test_link_bytes_are_interpolated(begin_ns: int, end_ns: int, expected: int | None) -> None:
    carried = link_bytes(counters_of(samples((100, 0.0), (200, 1000.0), (300, 2000.0))), begin_ns, end_ns, "tx_bytes")
    assert carried == (None if expected is None else {"eth0": expected})


def test_each_interface_has_its_own_bytes() -> None:
    records = samples((0, 0.0), (10, 10.0)) + samples((0, 5.0), (10, 5.0), interface="lo")
    for record in records[2:]:
        records[0 if record.time_ns == 0 else 1].values.update(record.values)
    records = records[:2]
    others = [CounterRecord(time_ns=5, source="host", values={"rank 0": {"rss_bytes": 7.0}})]
    counters = counters_of(sorted(records + others, key=lambda record: record.time_ns))
    assert link_bytes(counters, 0, 10, "tx_bytes") == {"eth0": 10, "lo": 0}
    assert link_bytes(counters, 0, 10, "rx_bytes") is None
    assert link_bytes(counters_of([]), 0, 10, "tx_bytes") is None


def test_a_collective_of_several_ranks_counts_once(tmp_path: Path, report: Report) -> None:
    for rank in range(4):
        shard, replica = [rank // 2 * 2, rank // 2 * 2 + 1], [rank % 2, rank % 2 + 2]
        made = Trace(distributed_info(rank, [0, 1, 2, 3], shard, replica)).step(0, 0, 100)
        made.in_group("1", 0, 4).call("_allgather_base_", 1, [2000], [1000]).transfer("all_gather", 5, 9, 1000)
        made.in_group("2", 20, 24).call("allreduce_", 21, [[1000]]).transfer("all_reduce", 25, 29, 1000)
        if rank != 3:  # its window ended before the second all-reduce did
            made.in_group("2", 30, 34).call("allreduce_", 31, [[1000]]).transfer("all_reduce", 35, 39, 1000)
        made.write(tmp_path / f"rank{rank}.json")
    result = report(tmp_path)
    assert [(row["kind"], row["ranks"], row["calls"], row["payload_bytes"]) for row in result["collectives"]] == [
        ("all_gather", [0, 1], 1, 8000), ("all_gather", [2, 3], 1, 8000),
        ("all_reduce", [0, 2], 2, 8000), ("all_reduce", [1, 3], 2, 8000),
    ]  # fmt: skip
