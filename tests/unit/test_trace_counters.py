"""Counters as series: what one was over a span of time, against the same added up nanosecond by nanosecond."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.counters import CounterEvent, Series, counters_of
from shardprof.trace.schema import CounterRecord

STATE, TOTAL = "rss_bytes", "tx_bytes"


def series(name: str, times: list[int], values: list[float]) -> Series:
    return Series(name, np.array(times, dtype=np.int64), np.array(values, dtype=np.float64))


def plain_value(times: list[int], values: list[float], at: float) -> float:
    for (t0, v0), (t1, v1) in itertools.pairwise(zip(times, values, strict=True)):
        if t0 <= at <= t1:
            return v0 + (v1 - v0) * (at - t0) / (t1 - t0)
    return values[-1]


samples = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 100)), min_size=2, max_size=8, unique_by=lambda pair: pair[0]
).map(sorted)


@given(samples=samples, span=st.tuples(st.integers(0, 60), st.integers(1, 30)))
def test_a_state_has_its_mean_and_a_total_its_increase(samples: list[tuple[int, int]], span: tuple[int, int]) -> None:
    times, values = [time for time, _ in samples], [float(value) for _, value in samples]
    begin, end = span[0], span[0] + span[1]
    mean, increase = (series(name, times, values).over_one(begin, end) for name in (STATE, TOTAL))
    if begin < times[0] or end > times[-1]:
        assert mean is None
        assert increase is None
        return
    plain = [(plain_value(times, values, t) + plain_value(times, values, t + 1)) / 2 for t in range(begin, end)]
    assert mean == pytest.approx(sum(plain) / len(plain), abs=1e-6)
    before, after = plain_value(times, values, begin), plain_value(times, values, end)
    assert increase == pytest.approx(max(0.0, after - before), abs=1e-6)


def test_times_of_today_lose_no_nanosecond() -> None:
    now = 1_800_000_000_000_000_000
    total = series(TOTAL, [now, now + 1000], [0.0, 1000.0])
    assert [total.over_one(now + k, now + k + 1) for k in (0, 1, 998, 999)] == pytest.approx([1.0] * 4, abs=1e-6)
    assert total.over_one(now - 1, now + 1) is None


def test_rates_are_a_second_and_never_negative() -> None:
    total = series(TOTAL, [0, 500_000_000, 1_000_000_000, 1_000_000_000], [0.0, 10.0, 5.0, 5.0])
    assert list(total.rates()) == [20.0, 0.0, 0.0]


def test_records_become_series_and_events() -> None:
    records = [
        CounterRecord(time_ns=1, source="host", values={"node": {"cpu_percent": 5, "of a later version": 1}}),
        CounterRecord(time_ns=2, source="nvml", values={"gpu 0": {"power_w": 70.5}}, events={"gpu 0": ["xid 79"]}),
        CounterRecord(time_ns=3, source="host", values={"node": {"cpu_percent": 7}}),
        CounterRecord(time_ns=1, source="host", values={"node": {"cpu_percent": 5}}),
    ]
    counters = counters_of(records)
    assert list(counters.series) == ["node", "gpu 0"]
    assert list(counters.series["node"]) == ["cpu_percent"]
    assert list(counters.series["node"]["cpu_percent"].values) == [5.0, 7.0], "a line that is there twice counts once"
    assert counters.events == (CounterEvent(2, "gpu 0", "xid 79"),)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), 10**400, -(10**400), 2**64, "5", None],
    ids=lambda value: repr(value)[:8],
)
def test_what_no_counter_holds_was_not_measured(value: Any) -> None:
    records = [
        CounterRecord(time_ns=1, source="host", values={"node": {"cpu_percent": value}}),
        CounterRecord(time_ns=2, source="host", values={"node": {"cpu_percent": 5.0}}),
    ]
    assert list(counters_of(records).series["node"]["cpu_percent"].values) == [5.0]
