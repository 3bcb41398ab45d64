"""How ranks agree on a run through the store of their process group: the first tells, the others hear, nobody hangs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import torch.distributed as dist

from shardprof.recording import identity, meeting
from shardprof.trace.schema import RANK_FILE, RankRecord, RunFolder, write_whole


def test_the_first_one_finds_and_all_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = dist.HashStore()
    found: list[int] = []

    def find() -> str:
        found.append(1)
        return "here"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: meeting._first_tells(store, "run 1", find), range(8)))
    assert sorted(told) == [("here", False)] * 7 + [("here", True)]
    assert len(found) == 1


def test_a_first_one_that_fails_keeps_nobody_waiting() -> None:
    store: Any = dist.HashStore()

    def find() -> str:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        meeting._first_tells(store, "run 1", find)
    with pytest.raises(OSError, match="could not"):
        meeting._first_tells(store, "run 1", find)


def test_a_first_one_that_never_tells_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "TOLD_WITHIN_S", 0.05)
    store: Any = dist.HashStore()
    store.add("run 1 asked", 1)
    with pytest.raises(TimeoutError, match="no rank has told the run 1"):
        meeting._first_tells(store, "run 1", lambda: "here")


def test_a_run_is_over_when_all_have_left_who_were_in_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not meeting._is_over(run)
    write(run, 0, exit_code=0)
    write(run, 1, exit_code=None)
    assert not meeting._is_over(run)
    write(run, 1, exit_code=1)
    assert meeting._is_over(run)


def test_a_node_that_does_not_see_the_run_makes_one_for_its_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = dist.HashStore()

    def meet(node: str) -> tuple[Path, bool, bool]:
        def make() -> RunFolder:
            run = RunFolder(tmp_path / node)
            run.root.mkdir()
            run.run_file.touch()
            return run

        monkeypatch.setattr(identity, "of_node", lambda: node)
        run, is_made, is_of_node = meeting._run_of_block(store, "run 1", make)
        return run.root, is_made, is_of_node

    first = tmp_path / "first"
    assert [meet("first"), meet("first"), meet("shared")] == [
        (first, True, False), (first, False, False), (first, False, False)
    ]  # fmt: skip
    first.rename(tmp_path / "elsewhere")
    far = tmp_path / "far"
    assert [meet("far"), meet("far")] == [(far, True, True), (far, False, True)]
    assert meet("shared") == (first, False, False), "its first rank has decided"


def write(run: RunFolder, rank: int, exit_code: int | None) -> None:
    run.rank(rank).mkdir(parents=True, exist_ok=True)
    record = RankRecord(
        rank=rank, world_size=2, local_rank=rank, host="a", pid=1, device="cpu", started_ns=0, versions={},
        exit_code=exit_code,
    )  # fmt: skip
    write_whole(run.rank(rank) / RANK_FILE, record)
