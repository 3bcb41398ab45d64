"""What a block of `shardprof.record()` is asked for and says, where nothing trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shardprof
from shardprof.errors import ShardprofError
from shardprof.recording.block import _exit_code, _recorded, folder_of
from shardprof.trace.schema import CapturePlan, RankRecord, Window


@pytest.mark.parametrize("steps", [range(0), range(5, 2), range(-3, 2), range(0, 9, 2), (2, 7), "2:7"])
def test_what_is_no_range_of_steps_is_refused_at_once(steps: Any) -> None:
    with pytest.raises(ShardprofError, match="is no range of steps"):
        shardprof.record(steps=steps)


def test_no_name_is_no_folder_of_the_users() -> None:
    assert folder_of("") is None is folder_of(None)
    assert folder_of(".") == Path.cwd()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0), (ValueError(), 1), (KeyboardInterrupt(), 130), (SystemExit(), 0), (SystemExit(3), 3),
        (SystemExit("no data"), 1),
    ],
)  # fmt: skip
def test_a_block_is_left_as_a_process_is(error: BaseException | None, code: int) -> None:
    assert _exit_code(error) == code


def test_a_block_in_which_nothing_trains_leaves_nothing(tmp_path: Path) -> None:
    """In a process of its own: hooks stay."""
    script = """
import shardprof
def asked(recording):
    try:
        return recording.run
    except shardprof.ShardprofError as error:
        return str(error).split(";")[0]
with shardprof.record() as recording:
    print(asked(recording), recording.folder)
print(asked(recording), recording.folder)
print(recording.headline)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    inside, after, headline = done.stdout.splitlines()
    assert inside == "the block is still being recorded None"
    assert after.startswith("nothing was recorded: ")
    assert headline.startswith(after.removesuffix(" None"))
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_could_not_begin_says_so_and_does_not_blame_the_loop() -> None:
    script = """
import shardprof
from shardprof.recording import shield
shield.FAULTS.add("Block._enter")
with shardprof.record() as recording:
    pass
try:
    recording.run
except shardprof.ShardprofError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    fault = "RuntimeError('a fault asked for in Block._enter')"
    assert done.stdout == f"nothing was recorded: {fault}; the training itself was left alone\n"
    assert done.stderr == f"shardprof: this block is not recorded: {fault}\n"


@pytest.mark.parametrize(
    ("steps", "windows", "words"),
    [
        (0, [], "no step end was seen: call shardprof.step() in the loop, once a step"),
        (2, [], "recorded 2 steps, captured none (record(steps=range(0, 2)) would have)"),
        (9, [], "recorded 9 steps, captured none"),
        (3, [(2, 2)], "recorded 3 steps, captured step 2"),
        (9, [(2, 6)], "recorded 9 steps, captured steps 2-6"),
    ],
)
def test_what_came_of_it_is_one_line(steps: int, windows: list[tuple[int, int]], words: str) -> None:
    record = RankRecord(
        rank=0, world_size=1, local_rank=0, host="a", pid=1, device="cpu", started_ns=0, versions={},
        windows=tuple(Window(first_step=first, last_step=last, file="trace.json") for first, last in windows),
    )  # fmt: skip
    assert _recorded(record, steps, CapturePlan(first_step=2)) == words
