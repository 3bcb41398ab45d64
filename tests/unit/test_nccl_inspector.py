"""NCCL Inspector's files: what becomes of their records, and of files that are torn, foreign or hostile."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.errors import UnreadableTraceError
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.importers import comma, nccl_inspector, nccl_records
from shardprof.trace.importers.json_records import json_records
from shardprof.trace.nccl.operations import Communicator, Operations

T_US = 1_790_000_000_000_000
MIB = 1 << 20


def record(performance: dict[str, Any], *, p2p: bool = False, pid: int = 41, **header: Any) -> dict[str, Any]:
    return {
        "header": {"id": "0xa1b2c3d4e5f60718", "rank": 2, "n_ranks": 4, "nnodes": 1} | header,
        "metadata": {
            "inspector_output_format_version": "v4.0", "git_rev": "", "rec_mechanism": "nccl_profiler_interface",
            "dump_timestamp_us": T_US + 9000, "hostname": "node-a", "pid": pid,
        },
        "p2p_perf" if p2p else "coll_perf": performance,
    }  # fmt: skip


def collective(function: str, sequence: int, **others: Any) -> dict[str, Any]:
    return {
        "coll": function, "coll_sn": sequence, "coll_msg_size_bytes": MIB, "coll_exec_time_us": 500,
        "coll_timing_source": "kernel_gpu", "coll_algobw_gbs": 8.388608, "coll_busbw_gbs": 6.291456,
    } | others  # fmt: skip


def trace(prefix: str, start_us: int, *channels: tuple[int, int]) -> dict[str, Any]:
    events = [
        {"channel_id": i, "kernel_start_ts": begin, "kernel_stop_ts": end, "kernel_record_ts": end}
        for i, (begin, end) in enumerate(channels)
    ]
    return {f"{prefix}_start_ts": start_us, f"{prefix}_stop_ts": start_us + 5, "kernel_events": events}


def read(path: Path, text: str) -> Operations:
    path.write_text(text)
    return nccl_inspector.read(path)


def lines(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in records)


def test_with_an_event_trace_times_are_the_host_s(tmp_path: Path) -> None:
    seen = trace("coll", T_US, (T_US + 120, T_US + 640), (T_US + 130, T_US + 650))
    found = read(tmp_path / "a.log", lines(record(collective("AllGather", 7, event_trace_ts=seen), comm_name="DP")))
    assert found.communicators == (
        Communicator(hash=0xA1B2C3D4E5F60718, rank=2, ranks=4, nodes=1, name="DP"),
    )  # fmt: skip
    assert [found.words[i] for i in found.function] == ["AllGather"]
    assert (found.sequence.tolist(), found.channels.tolist()) == ([7], [2])
    assert found.payload_bytes.tolist() == [4 * MIB], "a message is a rank's part of an all-gather"
    assert found.wire_bytes.tolist() == [3 * MIB]
    assert found.enqueued_ns.tolist() == [T_US * 1000]
    assert found.end_ns.tolist() == [(T_US + 650) * 1000], "the last channel's stop"
    assert found.begin_ns.tolist() == [(T_US + 150) * 1000], "500 us earlier, as the GPU's timer says"


def test_without_one_only_the_duration_holds(tmp_path: Path) -> None:
    found = read(tmp_path / "a.log", lines(record(collective("AllReduce", 1))))
    assert found.end_ns.tolist() == [(T_US + 9000) * 1000], "when it was written"
    assert (found.end_ns - found.begin_ns).tolist() == [500_000]
    assert found.enqueued_ns.tolist() == found.channels.tolist() == [UNKNOWN]
    assert (found.payload_bytes.tolist(), found.wire_bytes.tolist()) == ([MIB], [MIB * 3 // 2])


def test_a_duration_that_was_not_measured_leaves_the_begin_unknown(tmp_path: Path) -> None:
    found = read(tmp_path / "a.log", lines(record(collective("AllReduce", 1, coll_exec_time_us=0))))
    assert found.begin_ns.tolist() == [UNKNOWN]


def test_a_channel_that_was_never_seen_to_stop_tells_no_end(tmp_path: Path) -> None:
    seen = trace("coll", T_US, (T_US + 120, 0))
    found = read(tmp_path / "a.log", lines(record(collective("AllReduce", 1, event_trace_ts=seen))))
    assert (found.end_ns.tolist(), found.enqueued_ns.tolist()) == ([(T_US + 9000) * 1000], [UNKNOWN])


def test_sends_and_receives(tmp_path: Path) -> None:
    performance = {
        "p2p": "Send", "p2p_sn": 3, "p2p_peer": 1, "p2p_msg_size_bytes": MIB, "p2p_exec_time_us": 40,
        "p2p_timing_source": "kernel_gpu", "p2p_algobw_gbs": 1.0, "p2p_busbw_gbs": 1.0,
        "event_trace_ts": trace("p2p", T_US, (T_US + 10, T_US + 60)),
    }  # fmt: skip
    found = read(tmp_path / "a.log", lines(record(performance, p2p=True)))
    assert (found.peer.tolist(), found.sequence.tolist()) == ([1], [UNKNOWN])
    assert found.payload_bytes.tolist() == found.wire_bytes.tolist() == [MIB]
    assert found.begin_ns.tolist() == [(T_US + 20) * 1000]


def test_communicators_are_told_apart_by_hash_name_and_process(tmp_path: Path) -> None:
    told = collective("AllReduce", 1)
    records = [record(told), record(told, id="0x1"), record(told), record(told, pid=42), record(told, comm_name="TP")]
    found = read(tmp_path / "a.log", lines(*records))
    assert found.communicator.tolist() == [0, 1, 0, 2, 3]
    assert [one.name for one in found.communicators] == ["", "", "", "TP"]


@pytest.mark.parametrize(("function", "payload"), [("All2All", 4 * MIB), ("AllGatherV", UNKNOWN), ("Broadcast", MIB)])
def test_what_a_message_is_depends_on_the_function(tmp_path: Path, function: str, payload: int) -> None:
    assert read(tmp_path / "a.log", lines(record(collective(function, 1)))).payload_bytes.tolist() == [payload]


RECORDS = [record(collective("AllReduce", sequence)) for sequence in range(4)]


@pytest.mark.parametrize(
    "text",
    [
        lines(*RECORDS),
        "".join(map(json.dumps, RECORDS)),
        "\n".join(json.dumps(one, indent=2) for one in RECORDS),
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        lines(*RECORDS) + json.dumps(RECORDS[0])[:-7],
        lines(*RECORDS[:2]) + json.dumps(RECORDS[0])[:60] + "\n" + lines(*RECORDS[2:]),
        lines(RECORDS[0], {"header": 1}, *RECORDS[1:]),
    ],
    ids=["lines", "joined", "indented", "list", "indented list", "cut", "torn inside", "foreign inside"],
)
def test_every_whole_record_is_found(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "a.log", text).sequence.tolist() == [0, 1, 2, 3]
    assert nccl_inspector.sniff(tmp_path / "a.log")


@given(end=st.integers(0, len(lines(*RECORDS))), sizes=st.lists(st.integers(1, 400), min_size=1))
def test_a_cut_costs_the_last_record_only_however_the_text_arrives(end: int, sizes: list[int]) -> None:
    text = lines(*RECORDS).encode()[:end]
    blocks = []
    at = 0
    while at < len(text):
        blocks.append(text[at : at + sizes[len(blocks) % len(sizes)]])
        at += len(blocks[-1])
    whole = [one for one in text.split(b"\n") if one.endswith(b"}}")]
    assert list(json_records(blocks)) == [json.loads(one) for one in whole]


def test_gzip_whole_and_cut(tmp_path: Path) -> None:
    packed = gzip.compress(lines(*RECORDS * 200).encode())
    path = tmp_path / "a.log.gz"
    path.write_bytes(packed)
    assert len(nccl_inspector.read(path)) == 800
    path.write_bytes(packed[: len(packed) // 2])
    assert 0 < len(nccl_inspector.read(path)) < 800


@pytest.mark.parametrize(
    "text",
    ["", "\0", "{}", "[]", "[" * 100_000, '{"a":' * 100_000, '{"traceEvents": []}', "node-a:41:41 [0] NCCL INFO x"],
)
def test_other_files_are_not_its(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.log").write_text(text)
    assert not nccl_inspector.sniff(tmp_path / "a.log")
    assert not comma.sniff(tmp_path / "a.log")
    assert nccl_records.read(tmp_path / "a.log") is None
    assert len(nccl_inspector.read(tmp_path / "a.log")) == 0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert not nccl_inspector.sniff(tmp_path / "a.log")
    with pytest.raises(FileNotFoundError):
        nccl_inspector.read(tmp_path / "a.log")


def test_what_is_packed_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(UnreadableTraceError, match="zstd"):
        nccl_inspector.read(tmp_path / "a.log")


@pytest.mark.parametrize(
    "changes",
    [
        {"coll_msg_size_bytes": 1 << 70}, {"coll_msg_size_bytes": -1}, {"coll_exec_time_us": 10**40},
        {"coll_sn": 1 << 63}, {"coll": None}, {"coll_exec_time_us": float("nan")}, {"event_trace_ts": 5},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_true_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    told = lines(record(collective("AllReduce", 1, **changes)), record(collective("AllReduce", 2)))
    assert read(tmp_path / "a.log", told).sequence.tolist() == [2]


def test_the_largest_figures_fit(tmp_path: Path) -> None:
    most = collective("AllGather", 1 << 62, coll_msg_size_bytes=1 << 42)
    (payload,) = read(tmp_path / "a.log", lines(record(most, n_ranks=1 << 20))).payload_bytes.tolist()
    assert payload == 1 << 62


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(place=st.sampled_from(["header", "metadata", "coll_perf"]), member=st.integers(0, 9), value=ANY)
def test_whatever_stands_in_a_record_it_is_a_row_or_none(
    tmp_path_factory: pytest.TempPathFactory, place: str, member: int, value: object
) -> None:
    changed = json.loads(json.dumps(record(collective("AllReduce", 1))))
    names = list(changed[place])
    changed[place][names[member % len(names)]] = value
    assert len(read(tmp_path_factory.mktemp("a") / "a.log", lines(changed))) in (0, 1)
