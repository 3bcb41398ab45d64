"""What is sampled beside a job: the sampler's manners, and the host source on this very process."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from shardprof.record import sampler as sampling
from shardprof.record.counters import Sample, Source, open_sources
from shardprof.record.sampler import Sampler
from shardprof.trace.schema import CounterRecord, Device, RankRecord, RunFolder, read_lines, write_whole


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


def write_rank(run: RunFolder, rank: int, host: str) -> None:
    record = RankRecord(
        rank=rank, world_size=2, local_rank=rank, host=host, pid=os.getpid(), device="cpu", started_ns=0, versions={}
    )
    run.rank(rank).mkdir(parents=True)
    write_whole(run.rank(rank) / "rank.json", record)


@pytest.fixture
def host_source(tmp_path: Path) -> Source:
    run = RunFolder(tmp_path)
    write_rank(run, 4, "a")
    write_rank(run, 5, "b")
    return next(source for source in open_sources(run, "a", pytest.fail) if source.name == "host")


def test_the_host_source_samples_this_very_process(host_source: Source, tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'echo; read line'; true"], stdin=-1, stdout=-1) as family:
        assert family.stdout is not None
        family.stdout.readline()
        values = host_source.sample().values
        family.communicate(b"\n")
    assert values["rank 4"]["rss_bytes"] > 1e6
    assert values["rank 4"]["processes"] >= 3
    assert "processes" not in host_source.sample().values["rank 4"], "they are counted every few seconds only"
    assert "rank 5" not in values
    assert "lo" in values
    (RunFolder(tmp_path).rank(4) / "rank.json").unlink()
    assert host_source.sample().values["rank 4"]["cpu_user_s"] >= values["rank 4"]["cpu_user_s"]
