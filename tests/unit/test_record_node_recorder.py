"""Until when the recorder beside a block's ranks waits, and what it asks of the storage that all nodes share."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shardprof.recording import identity
from shardprof.recording.beside import node_ranks, node_recorder
from shardprof.trace.schema import RANK_FILE, RankRecord, RunFolder, read_whole, write_whole

OTHERS = range(8, 48)


def check_in(run: RunFolder, rank: int, host: str, pid: int, exit_code: int | None = None) -> None:
    record = RankRecord(
        rank=rank, world_size=48, local_rank=0, host=host, pid=pid, device="cpu", started_ns=pid, versions={},
        exit_code=exit_code,
    )  # fmt: skip
    run.rank(rank).mkdir(parents=True, exist_ok=True)
    write_whole(run.rank(rank) / RANK_FILE, record)


@pytest.fixture
def here() -> str:
    """This process, as the one that started the recorder."""
    return identity.of_process(os.getpid())


def test_what_ranks_of_other_nodes_write_is_read_once(
    tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, read = RunFolder(tmp_path), Counter[str]()

    def counting(record_type: Any, path: Path) -> Any:
        read[path.parent.name] += 1
        return read_whole(record_type, path)

    for module in (node_ranks, node_recorder):
        monkeypatch.setattr(module, "read_whole", counting)
    for rank in OTHERS:
        check_in(run, rank, "b", pid=1)
    with subprocess.Popen(["sleep", "1.2"]) as ours:
        check_in(run, 0, "a", ours.pid)
        check_in(run, 1, "a", ours.pid, exit_code=0)
        assert node_recorder._Ranks(run, "a", here).wait() == 1, "it has left without a word"
    assert read["00000"] > 2
    assert {read[f"{rank:05d}"] for rank in OTHERS} == {1}


def test_the_exit_code_is_that_of_the_first_one_that_failed(tmp_path: Path, here: str) -> None:
    run = RunFolder(tmp_path)
    for rank, code in enumerate((0, 3, 1)):
        check_in(run, rank, "a", os.getpid(), exit_code=code)
    check_in(run, 3, "b", os.getpid())
    assert node_recorder._Ranks(run, "a", here).wait() == 3


def test_a_starter_that_is_gone_before_it_was_a_rank_is_waited_for_no_longer(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as gone:
        starter = identity.of_process(gone.pid)
        gone.kill()
    assert node_recorder._Ranks(RunFolder(tmp_path), "a", starter).wait() == 1
