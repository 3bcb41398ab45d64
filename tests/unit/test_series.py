"""How a run went over time: what is kept of long series, and that what is shown stands in the run folder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.analysis.series import MOST_POINTS, kept_points

RUN = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(-1000, 1000)), min_size=1, max_size=1000))
def test_of_each_stretch_the_least_and_the_most_are_kept(samples: list[tuple[int, int]]) -> None:
    times = np.cumsum([apart for apart, _ in samples])
    values = np.array([float(value) for _, value in samples])
    kept = kept_points(times, values)
    assert (np.diff(kept) > 0).all()
    if len(samples) <= MOST_POINTS:
        assert len(kept) == len(samples)
        return
    assert len(kept) <= MOST_POINTS
    width = int(times[-1] - times[0]) // (MOST_POINTS // 2) + 1
    for stretch in range(MOST_POINTS // 2):
        here = [i for i in range(len(samples)) if (times[i] - times[0]) // width == stretch]
        shown = [values[i] for i in kept if i in set(here)]
        assert not here or (min(shown), max(shown)) == (values[here].min(), values[here].max())
        assert len(shown) <= 2


@pytest.fixture(scope="module")
def series() -> dict[tuple[str, str], dict[str, Any]]:
    report = json.loads((RUN / "expected.json").read_text())
    return {(one["subject"], one["name"]): one for one in report["series"]}


def test_states_are_the_samples(series: dict[tuple[str, str], dict[str, Any]]) -> None:
    samples = [line for line in lines(RUN / "hosts/node-a/counters.jsonl") if line["source"] == "host"]
    memory = series["node", "memory_used_bytes"]
    assert memory["times_ns"] == [line["time_ns"] for line in samples]
    assert memory["values"] == [line["values"]["node"]["memory_used_bytes"] for line in samples]
    assert memory["rank"] is None
    resident = [line for line in samples if "rss_bytes" in line["values"].get("rank 1", {})]
    assert series["rank 1", "rss_bytes"]["times_ns"] == [line["time_ns"] for line in resident]
    assert series["rank 1", "rss_bytes"]["rank"] == 1


def test_totals_are_rates(series: dict[tuple[str, str], dict[str, Any]]) -> None:
    samples = [line for line in lines(RUN / "hosts/node-a/counters.jsonl") if line["source"] == "host"]
    sent = [(line["time_ns"], line["values"]["lo"]["tx_bytes"]) for line in samples]
    rates = [(b - a) / ((after - before) / 1e9) for (before, a), (after, b) in itertools.pairwise(sent)]
    assert series["lo", "tx_bytes_per_s"]["times_ns"] == [time_ns for time_ns, _ in sent[1:]]
    assert series["lo", "tx_bytes_per_s"]["values"] == rates
    assert ("ifb0", "tx_bytes_per_s") not in series, "what carried nothing is left out"


def test_steps_are_the_records(series: dict[tuple[str, str], dict[str, Any]]) -> None:
    steps = lines(RUN / "ranks/00000/steps.jsonl")
    assert series["rank 0", "step_ns"]["times_ns"] == [step["end_ns"] for step in steps]
    assert series["rank 0", "step_ns"]["values"] == [step["end_ns"] - step["begin_ns"] for step in steps]
