"""Which ranks are on this node, for those that look at them from the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprof.recording.beside import node_ranks
from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.trace.schema import RankRecord, RunFolder, write_whole


def check_in(run: RunFolder, rank: int, host: str, pid: int = 1) -> None:
    record = RankRecord(
        rank=rank, world_size=2, local_rank=0, host=host, pid=pid, device="cpu", started_ns=pid, versions={}
    )
    run.rank(rank).mkdir(parents=True, exist_ok=True)
    write_whole(run.rank(rank) / "rank.json", record)


def seen(ranks: NodeRanks) -> dict[int, int]:
    return {record.rank: record.pid for record in ranks.current()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_ranks_are_found_as_they_check_in(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_ranks, "NEW_EVERY_S", 0.0)
    ranks = NodeRanks(run, "a")
    assert seen(ranks) == {}
    check_in(run, 0, "a")
    check_in(run, 1, "b")
    run.rank(2).mkdir()
    assert seen(ranks) == {0: 1}
    check_in(run, 2, "a", pid=7)
    assert seen(ranks) == {0: 1, 2: 7}


def test_files_are_not_read_again_at_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    check_in(run, 0, "a")
    ranks = NodeRanks(run, "a")
    assert seen(ranks) == {0: 1}
    check_in(run, 0, "a", pid=2)
    check_in(run, 1, "a")
    assert seen(ranks) == {0: 1}
    monkeypatch.setattr(node_ranks, "NEW_EVERY_S", 0.0)
    assert seen(ranks) == {0: 1, 1: 1}, "the new one only"
    monkeypatch.setattr(node_ranks, "OURS_EVERY_S", 0.0)
    assert seen(ranks) == {0: 2, 1: 1}, "started anew"


def test_a_rank_may_move_between_nodes(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEW_EVERY_S", "OURS_EVERY_S", "OTHERS_EVERY_S"):
        monkeypatch.setattr(node_ranks, name, 0.0)
    check_in(run, 0, "a")
    here, there = NodeRanks(run, "a"), NodeRanks(run, "b")
    assert (seen(here), seen(there)) == ({0: 1}, {})
    check_in(run, 0, "b", pid=2)
    assert (seen(here), seen(there)) == ({}, {0: 2})
