"""What is sampled beside a job: the sampler's manners."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shardprof.recording.beside import sampler as sampling
from shardprof.recording.beside.sampler import Sampler
from shardprof.recording.counters import Sample
from shardprof.trace.schema import CounterRecord, Device, read_lines


class Failing:
    name = "failing"
    interval_ns = 1_000_000
    devices: tuple[Device, ...] = ()

    def sample(self) -> Sample:
        raise RuntimeError("no such counter")

    def close(self) -> None:
        pytest.fail("a source that failed is not asked anything more")


class Counting:
    name = "counting"
    interval_ns = 1_000_000
    devices: tuple[Device, ...] = ()

    def __init__(self, takes_s: float = 0) -> None:
        self.samples = 0
        self.is_closed = False
        self._takes_s = takes_s

    def sample(self) -> Sample:
        self.samples += 1
        time.sleep(self._takes_s)
        return Sample({"node": {"samples": self.samples}}, {"node": ("sampled",)})

    def close(self) -> None:
        self.is_closed = True


def run_until(sampler: Sampler, counting: Counting, samples: int) -> None:
    sampler.start()
    while counting.samples < samples:
        time.sleep(0.001)
    sampler.stop()


def test_a_source_that_fails_is_noted_and_left_out(tmp_path: Path) -> None:
    notes: list[str] = []
    counting = Counting()
    sampler = Sampler(tmp_path / "counters.jsonl", [Failing(), counting], lambda: True, notes.append)
    run_until(sampler, counting, 2)
    records = list(read_lines(CounterRecord, tmp_path / "counters.jsonl"))
    assert [record.source for record in records] == ["counting"] * len(records)
    assert records[0].events == {"node": ["sampled"]}
    assert len(records) >= 2
    assert counting.is_closed
    (note,) = notes
    assert "no such counter" in note


def test_a_source_never_takes_more_than_its_share_of_a_core(tmp_path: Path) -> None:
    slow = Counting(takes_s=0.005)
    sampler = Sampler(tmp_path / "counters.jsonl", [slow], lambda: True, pytest.fail)
    begin = time.monotonic()
    run_until(sampler, slow, 3)
    assert time.monotonic() - begin > 2 * 0.005 / sampling.MOST_SHARE
    (cost,) = sampler.costs("a")
    assert (cost.host, cost.source) == ("a", "counting")
    assert cost.cost_ns >= cost.samples * 5_000_000
    assert cost.interval_ns >= 5_000_000 / sampling.MOST_SHARE


def test_samples_are_rare_where_nothing_is_captured(tmp_path: Path) -> None:
    dense, sparse = Counting(), Counting()
    samplers = [
        Sampler(tmp_path / f"{is_dense}.jsonl", [source], lambda is_dense=is_dense: is_dense, pytest.fail)  # type: ignore[misc]
        for source, is_dense in ((dense, True), (sparse, False))
    ]
    for sampler in samplers:
        sampler.start()
    while dense.samples < 100:
        time.sleep(0.01)
    for sampler in samplers:
        sampler.stop()
    assert 1 <= sparse.samples <= dense.samples / 4
