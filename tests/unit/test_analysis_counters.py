"""What the counters of a node explain: each notice has a run that shows it and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shardprof.analysis.counters import Node, NodeRank, StepTimes, notices
from shardprof.trace.counters import counters_of
from shardprof.trace.schema import CounterRecord, Device, HostRecord, RankRecord, StepRecord, gpu_of

SECOND = 1_000_000_000
SAMPLES = 100
GB = 1e9

Value = Callable[[int], float]


def node(
    subject: str = "node", events: dict[int, str] | None = None, retries: Value = lambda _: 0, **values: Value
) -> Node:
    """A node of one rank with a GPU: a sample a second, a step a second, the counters functions of the second."""
    records = [
        CounterRecord(
            time_ns=second * SECOND,
            source="host",
            values={subject: {name: value(second) for name, value in values.items()}},
            events={subject: [events[second]]} if events and second in events else {},
        )
        for second in range(SAMPLES)
    ]
    rank = RankRecord(
        rank=3,
        world_size=4,
        local_rank=1,
        host="a",
        pid=1,
        device="cuda",
        device_uuid="GPU-1",
        started_ns=0,
        versions={},
    )
    devices = tuple(Device(subject=f"gpu {index}", name="A100", uuid=f"GPU-{index}") for index in range(2))
    host = HostRecord(name="a", identity="a", launcher_pid=1, cpu_count=8, memory_bytes=round(64 * GB), devices=devices)
    steps = [
        StepRecord(
            step=number,
            begin_ns=number * SECOND,
            end_ns=(number + 1) * SECOND,
            cuda_memory={"alloc_retries": retries(number)},
        )
        for number in range(SAMPLES - 1)
    ]
    ranks = [NodeRank(record=rank, steps=StepTimes.of(steps), gpu=gpu_of(host, rank))]
    return Node(record=host, counters=counters_of(records), ranks=ranks)


def dip(second: int) -> float:
    return 1095 if 40 <= second < 60 else 1410


CASES = {
    "clock_low": (
        node("gpu 1", {41: "throttled: hw_thermal"}, sm_clock_mhz=dip, utilization_percent=lambda _: 99.0),
        "gpu 1 (rank 3) ran at down to 1,095 MHz for 19.0 s, at 1,410 otherwise: throttled: hw_thermal",
        (40, 59),
    ),
    "swapping": (
        node(swap_out_bytes=lambda second: 5e6 * min(max(second - 50, 0), 10)),
        "a: 50 MB were written to swap",
        (50, 60),
    ),
    "page_faults": (
        node("rank 3", major_page_faults=lambda second: 200.0 * min(max(second - 50, 0), 10)),
        "rank 3: 2,000 page faults that had to read from storage",
        (50, 60),
    ),
    "threads": (
        node("rank 3", threads=lambda second: 40.0 + 10 * second),
        "rank 3: its threads grew from 50 to 1,030",
        (1, 98),
    ),
    "cpu_wait": (
        node("rank 3", main_thread_waiting_s=lambda second: 0.25 * second),
        "rank 3: its main thread waited for a CPU 25 % of the time",
        (1, 98),
    ),
    "memory_low": (
        node(memory_available_bytes=lambda second: GB if second > 90 else 30 * GB),
        "a: only 1.0 of 64 GB of memory were left",
        (91, 98),
    ),
    "network_errors": (
        node("eth0", rx_errors=lambda second: 3.0 if second > 5 else 0.0, tx_drops=lambda _: 500.0),
        "a, eth0: 3 rx errors on the network",
        (0, 98),
    ),
    "gpu_error": (node("gpu 1", {50: "xid 79"}, power_w=lambda _: 70.0), "a, gpu 1: xid 79", (50, 50)),
    "allocator_retries": (
        node(retries=lambda step: max(0, step - 96)),
        "rank 3: torch ran out of GPU memory and freed its cache in 2 steps",
        (97, 98),
    ),
}

QUIET = {
    "a steady clock": node("gpu 1", sm_clock_mhz=lambda _: 1410.0, utilization_percent=lambda _: 99.0),
    "a GPU that rests": node(
        "gpu 1", sm_clock_mhz=dip, utilization_percent=lambda second: 0.0 if 40 <= second < 60 else 99.0
    ),
    "a clock of somebody else's GPU": node("gpu 0", sm_clock_mhz=dip, utilization_percent=lambda _: 99.0),
    "one sample": node("gpu 1", sm_clock_mhz=lambda second: 1095 if second == 40 else 1410),
    "swap of long ago": node(swap_out_bytes=lambda _: 5e9, swap_in_bytes=lambda second: 1000.0 * second),
    "faults while it started": node("rank 3", major_page_faults=lambda second: 500.0 * min(second, 1)),
    "many threads all along": node("rank 3", threads=lambda _: 400.0),
    "a few more threads": node("rank 3", threads=lambda second: 4.0 + second / 10),
    "a little waiting": node("rank 3", main_thread_waiting_s=lambda second: 0.05 * second),
    "memory to spare": node(memory_available_bytes=lambda _: 10 * GB),
    "drops of before": node("eth0", tx_drops=lambda _: 500.0, rx_drops=lambda second: second / 2),
    "throttling without a lower clock": node("gpu 1", {41: "throttled: sw_power"}, sm_clock_mhz=lambda _: 1410.0),
    "retries of before": node(retries=lambda _: 7),
    "nothing sampled": node(),
}


@pytest.mark.parametrize("code", CASES)
def test_what_stands_out_is_noticed_with_its_steps(code: str) -> None:
    shown, message, steps = CASES[code]
    (notice,) = notices(shown)
    assert (notice.code, notice.message, notice.host) == (code, message, "a")
    assert notice.ranks == (3,)
    assert notice.steps == steps


def test_what_many_ranks_of_a_node_met_is_one_notice_that_shows_the_worst() -> None:
    waited = counters_of(
        CounterRecord(
            time_ns=second * SECOND,
            source="host",
            values={f"rank {rank}": {"main_thread_waiting_s": share * second} for rank, share in WAITED.items()},
            events={},
        )
        for second in range(SAMPLES)
    )
    one = CASES["cpu_wait"][0]
    ranks = [replace(one.ranks[0], record=replace(one.ranks[0].record, rank=rank)) for rank in WAITED]
    (notice,) = notices(replace(one, counters=waited, ranks=ranks))
    assert notice.message == "rank 2: its main thread waited for a CPU 40 % of the time; ranks 0, 3 too"
    assert (notice.ranks, notice.steps) == ((0, 2, 3), (1, 98))


WAITED = {0: 0.2, 1: 0.01, 2: 0.4, 3: 0.3}


@pytest.mark.parametrize("quiet", QUIET)
def test_what_does_not_is_not(quiet: str) -> None:
    assert notices(QUIET[quiet]) == []
