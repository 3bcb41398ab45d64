"""CoMMA's files: what becomes of their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.importers import comma, nccl_inspector, nccl_records
from shardprof.trace.nccl.operations import Communicator, Operations

T_US = 1_790_000_000_000_000
PROXY = {
    "cat": "PROXY", "name": "ProxyOp", "ph": "X", "pid": 9, "rank": 0, "peer": 8, "is_send": True, "ts": T_US + 700,
    "dur": 250, "n_steps": 1, "chunk_size": 4096, "channel_id": 0,
    "steps": [{"step": 1, "size": 4096, "start_time": T_US + 710, "end_time": T_US + 950}],
}  # fmt: skip
GROUP = {"cat": "GROUP", "name": "Group", "ph": "X", "ts": T_US, "dur": 3}


def operation(name: str = "all_reduce", **others: Any) -> dict[str, Any]:
    return {
        "args": {"size": 4096}, "cat": "COLL", "comm_hash": "0x00000000000000af", "dur": 1000, "name": name, "ph": "X",
        "rank": 3, "seq_num": 5, "ts": T_US,
    } | others  # fmt: skip


def read(path: Path, *records: dict[str, Any]) -> Operations:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return comma.read(path)


def test_an_operation_that_used_the_network(tmp_path: Path) -> None:
    newer = {"algo": "ring", "proto": "LL128", "n_max_channel": 2, "child_start_ts": T_US + 700}
    found = read(tmp_path / "c.txt", operation(child_dur=300, proxyops=[PROXY], **newer))
    assert found.communicators == (Communicator(hash=0xAF, rank=3, ranks=None),)
    assert found.enqueued_ns.tolist() == [T_US * 1000]
    assert found.begin_ns.tolist() == [(T_US + 700) * 1000]
    assert found.end_ns.tolist() == [(T_US + 1000) * 1000]
    names = (found.function, found.algorithm, found.protocol)
    assert [found.words[int(column[0])] for column in names] == ["AllReduce", "RING", "LL128"]
    assert (found.sequence.tolist(), found.channels.tolist()) == ([5], [2])
    assert found.payload_bytes.tolist() == [4096]
    assert found.wire_bytes.tolist() == [UNKNOWN], "nobody told how many ranks there are"


@pytest.mark.parametrize("changes", [{}, {"child_dur": 300, "reclaimed": True, "dur": 0}])
def test_one_that_did_not_or_was_never_seen_to_end_has_no_times(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = read(tmp_path / "c.txt", operation(**changes))
    assert found.enqueued_ns.tolist() == [T_US * 1000]
    assert found.begin_ns.tolist() == found.end_ns.tolist() == [UNKNOWN]


@pytest.mark.parametrize(
    ("name", "kind", "payload"),
    [
        ("all_reduce", "all_reduce", 4096), ("broadcast", "broadcast", 4096), ("reduce", "other_comm", 4096),
        ("all_gather", "all_gather", UNKNOWN), ("reduce_scatter", "reduce_scatter", UNKNOWN),
        ("unknown", "other_comm", UNKNOWN),
    ],
)  # fmt: skip
def test_the_payload_is_told_where_it_does_not_hang_on_the_ranks(
    tmp_path: Path, name: str, kind: str, payload: int
) -> None:
    found = read(tmp_path / "c.txt", operation(name))
    assert [COMM_KINDS[i] for i in found.kind] == [kind]
    assert found.payload_bytes.tolist() == [payload]


def test_sends(tmp_path: Path) -> None:
    send = operation("send", cat="P2P", peer=6)
    del send["seq_num"]
    found = read(tmp_path / "c.txt", send)
    assert (found.peer.tolist(), found.sequence.tolist()) == ([6], [UNKNOWN])
    assert found.wire_bytes.tolist() == [4096]


RECORDS = [GROUP, operation(seq_num=1), PROXY, operation(seq_num=2, comm_hash="0x0000000000000001"), operation()]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS), json.dumps(RECORDS, indent=1), "[" + ",\n".join(map(json.dumps, RECORDS)) + "\n]",
        json.dumps(RECORDS)[:-1] + ",", json.dumps([*RECORDS, operation()])[:-30],
        "\n".join(map(json.dumps, RECORDS)), "[\n" + ",\n".join(map(json.dumps, RECORDS)) + ",\n" + '{"args":{"si',
    ],
    ids=["list", "indented", "a line each", "not closed", "cut", "no list", "a line each, cut"],
)  # fmt: skip
def test_a_list_whose_job_was_killed_is_read_as_far_as_it_goes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.txt"
    path.write_text(text)
    assert comma.sniff(path)
    assert not nccl_inspector.sniff(path)
    found = nccl_records.read(path)
    assert found is not None
    assert found.sequence.tolist() == [1, 2, 5]
    assert found.communicator.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "changes",
    [{"ts": -1}, {"ts": 1 << 60}, {"args": {}}, {"args": {"size": 1 << 50}}, {"comm_hash": "af"}, {"cat": "GROUP"}],
)
def test_a_record_that_cannot_be_true_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read(tmp_path / "c.txt", operation(**changes), operation(seq_num=8)).sequence.tolist() == [8]


def test_a_communicator_whose_hash_was_not_known(tmp_path: Path) -> None:
    assert read(tmp_path / "c.txt", operation(comm_hash="0x0000000000000000")).communicators[0].hash is None
