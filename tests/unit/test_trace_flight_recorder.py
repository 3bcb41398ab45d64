"""Who keeps whom waiting, by what each rank's flight recorder remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.flight_recorder import Call, Wait, read_flight, waits

DEFAULT = {"0": (0, 1, 2, 3)}


def call(sequence: int, *, done: bool = True, group: str = "0", kind: str = "all_reduce") -> Call:
    return Call(group=group, description="default_pg", sequence=sequence, kind=kind, is_done=done)


def test_who_has_not_joined_is_behind() -> None:
    flights = {rank: [call(1), call(2, done=False)] for rank in range(4)} | {2: [call(1)]}
    assert waits(flights, DEFAULT) == [Wait(call(2, done=False), waiting=(0, 1, 3), absent=(2,))]


def test_a_rank_of_which_nothing_is_known_is_behind_if_it_is_in_the_group() -> None:
    flights = {0: [call(1, done=False)], 1: [call(1, done=False)]}
    assert waits(flights, DEFAULT)[0].absent == (2, 3)
    assert waits(flights, {})[0].absent == (), "without the members nobody is accused"


def test_a_collective_that_all_have_joined_and_none_leaves() -> None:
    (wait,) = waits({rank: [call(7, done=False)] for rank in range(4)}, DEFAULT)
    assert (wait.waiting, wait.absent) == ((0, 1, 2, 3), ())


def test_groups_are_told_apart_and_the_largest_wait_comes_first() -> None:
    shard, replica = call(5, done=False, group="1"), call(9, done=False, group="2")
    flights = {0: [call(3), shard], 1: [call(3)], 2: [call(3), replica], 3: [call(3), replica]}
    found = waits(flights, DEFAULT | {"1": (0, 1), "2": (2, 3)})
    assert [(wait.call.group, wait.waiting, wait.absent) for wait in found] == [("2", (2, 3), ()), ("1", (0,), (1,))]


def test_nobody_waits_where_everything_is_done() -> None:
    assert waits({0: [call(1)], 1: [call(1), call(2)]}, DEFAULT) == []
    assert waits({}, DEFAULT) == []


ENTRY = {
    "process_group": ["0", "default_pg"], "collective_seq_id": 26, "profiling_name": "nccl:all_reduce",
    "state": "started", "is_p2p": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "is_done"),
    [({}, False), ({"state": "completed"}, True), ({"retired": True}, True), ({"retired": False}, False)],
)
def test_a_dump_becomes_calls(tmp_path: Path, changes: dict[str, Any], is_done: bool) -> None:  # noqa: FBT001
    entries = [ENTRY | changes, ENTRY | {"is_p2p": True}]
    (tmp_path / "flight.json").write_text(json.dumps({"entries": entries, "pg_config": {}}))
    (found,) = read_flight(tmp_path / "flight.json") or []
    assert found == Call("0", "default_pg", 26, "all_reduce", is_done)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": [{}]}', '{"entries": [1]}', '{"entries": 1}', "\0"])
def test_what_is_no_dump_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "flight.json").write_text(text)
    assert read_flight(tmp_path / "flight.json") is None
    assert read_flight(tmp_path / "missing.json") is None
