"""Torch's flight recorder: its pickles are read without being run, and tell the same as its JSON."""

from __future__ import annotations

import collections
import copyreg
import gzip
import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.errors import ShardprofError, UnreadableTraceError
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.flight_recorder import Call, Wait, read_flight, waits
from shardprof.trace.importers import flight_recorder, flight_recorder_pickle, nccl_records
from shardprof.trace.importers.flight_recorder_pickle import plain_data
from shardprof.trace.nccl.operations import COLUMNS, Operations

DUMPS = Path(__file__).parent / "data" / "flight_recorder"
"""Of two ranks with gloo, torch 2.13, by _dump_fr_trace without stacks and _dump_fr_trace_json."""

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 2030), 1 << 2030)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | inner.map(lambda one: [one, one, (one,)])
    ),
    max_leaves=12,
)


@given(value=PLAIN, protocol=st.integers(2, 5))
def test_plain_data_is_what_pickle_makes_of_it(value: Any, protocol: int) -> None:
    made = plain_data(pickle.dumps(value, protocol))
    assert made == value
    assert repr(made) == repr(value), "with lists as lists, and True no 1"


def test_long_lists_come_in_pieces() -> None:
    value = {str(i): list(range(i * 3)) for i in range(0, 2500, 1249)} | {f"{i} of many": i for i in range(1100)}
    assert plain_data(pickle.dumps(value, 2)) == value


@given(value=PLAIN, end=st.floats(0, 1, exclude_max=True))
def test_a_torn_pickle_is_refused(value: Any, end: float) -> None:
    pickled = pickle.dumps(value, 2)
    with pytest.raises(UnreadableTraceError):
        plain_data(pickled[: int(end * len(pickled))])


@given(
    program=st.binary(max_size=200) | st.lists(st.sampled_from(b"\x80\x02.(]}tesua)\x85\x86\x87NKqh\x94XGJ")).map(bytes)
)
def test_no_program_does_more_than_make_or_be_refused(program: bytes) -> None:
    try:
        made = plain_data(program + b".")
    except UnreadableTraceError:
        return
    json.dumps(made)  # it is plain, and no knot is in it


class Evil:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was run"
    path = tmp_path / "dump"
    path.write_bytes(pickle.dumps({"version": "2.10", "pg_config": {}, "entries": [Evil(mark)]}, protocol))
    assert read_flight(path) is None
    if protocol >= 2:
        assert flight_recorder.sniff(path)
        with pytest.raises(
            ShardprofError, match=r"dump: the pickle is refused .*GLOBAL makes more than plain data.*not run"
        ):
            nccl_records.read(path)
    else:
        assert nccl_records.read(path) is None
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "and it would have been"


@pytest.mark.parametrize(
    ("program", "operation"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"), (b"\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"),
        (b"(S'true'\nios\nsystem\n.", "STRING"), (b"(ios\nsystem\n.", "INST"), (b"NNR.", "REDUCE"), (b"(No.", "OBJ"),
        (b"}}b.", "BUILD"), (b"N)\x81.", "NEWOBJ"), (b"N)}\x92.", "NEWOBJ_EX"), (b"Pone\n.", "PERSID"),
        (b"NQ.", "BINPERSID"), (b"\x82\x01.", "EXT1"), (b"\x83\x01\x00.", "EXT2"), (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"\x97.", "NEXT_BUFFER"), (b"\x8f.", "EMPTY_SET"), (b"(\x91.", "FROZENSET"), (b"C\x00.", "SHORT_BINBYTES"),
        (b"\x96" + b"\x7f" * 8 + b".", "BYTEARRAY8"), (b"\x8e" + b"\x7f" * 8 + b".", "BINBYTES8"),
        (b"\x8b\xff\xff\xff\x7f.", "LONG4"), (b"L" + b"9" * 100_000 + b"L\n.", "LONG"),
        (b"I" + b"9" * 100_000 + b"\n.", "INT"),
        (b"\xff.", "byte ff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"\x80\x02", b"\x80\x04}\x94"])
def test_whatever_makes_more_than_plain_data_is_refused_by_name(before: bytes, program: bytes, operation: str) -> None:
    with pytest.raises(UnreadableTraceError, match=f": {operation} makes more than plain data"):
        plain_data(before + program)


def test_an_extension_that_is_registered_is_refused_too() -> None:
    copyreg.add_extension("collections", "OrderedDict", 0x70)
    try:
        pickled = pickle.dumps(collections.OrderedDict, 2)
        assert pickle.loads(pickled) is collections.OrderedDict
        with pytest.raises(UnreadableTraceError, match="EXT1"):
            plain_data(pickled)
    finally:
        copyreg.remove_extension("collections", "OrderedDict", 0x70)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40)) + b".", "unfolds"),
        (b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(40)) + b".", "unfolds"),
        (b"](X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00" + b"h\x00" * 600 + b"e.", "unfolds"),
        (b")" + b"\x85" * 100 + b".", "nested"),
        (b"]" * 100_000 + b"a" * 99_999 + b".", "nested"),
        (b"]q\x00h\x00a.", "no new list"),
        (b"}q\x00X\x01\x00\x00\x00ah\x00s.", "no new dict"),
        (b"]q\x00]h\x00aq\x010.", "more than plain data"),
        (b"]q\x00(h\x00h\x00eNa.", "no new list"),
        (b"]q\x00]q\x01h\x00ah\x00h\x01a.", "no new list"),
        (b"}K\x01Ns.", "no text"), (b"})Ns.", "no text"), (b"}(Nu.", "no text"),
        (b"X\xff\xff\xff\xff.", "too early"), (b"X", "too early"), (b"h\x05.", "never made"),
        (b"j\xff\xff\xff\xff.", "never made"), (b".", "not there"), (b"(.", "not there"), (b"t.", "not there"),
        (b"(q\x00.", "not there"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_bombs_and_knots_are_refused(program: bytes, why: str) -> None:
    with pytest.raises(UnreadableTraceError, match=why):
        plain_data(program)


def test_many_values_that_nobody_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_recorder_pickle, "_MOST_VALUES", 1000)
    assert plain_data(b"N" * 1000 + b".") is None
    with pytest.raises(UnreadableTraceError, match="makes more than 1,000 values"):
        plain_data(b"N" * 1001 + b".")


def test_a_frame_or_a_place_in_the_memo_may_claim_what_it_likes() -> None:
    frame = b"\x95" + struct.pack("<Q", 1 << 63)
    assert plain_data(b"\x80\x04" + frame + b"Nr\xff\xff\xff\xff.") is None


@pytest.mark.parametrize("rank", [0, 1])
def test_both_forms_of_a_real_dump_tell_the_same(rank: int) -> None:
    pickled, text = DUMPS / f"rank{rank}.pickle", DUMPS / f"rank{rank}.json"
    assert_same(nccl_records.read(pickled), nccl_records.read(text))
    assert read_flight(pickled) == read_flight(text) is not None


def test_what_a_real_dump_tells() -> None:
    found = flight_recorder.read(DUMPS / "rank1.pickle")
    assert [COMM_KINDS[i] for i in found.kind] == [
        "all_reduce", "all_gather", "broadcast", "all_reduce", "other_comm", "all_gather", "other_comm", "all_to_all",
    ]  # fmt: skip
    assert found.payload_bytes.tolist() == [128, 256, 6, 128, UNKNOWN, 256, UNKNOWN, 64]
    assert found.sequence.tolist() == [1, 2, 1, 3, 4, 5, 6, 7]
    assert [(one.group, one.description) for one in found.communicators] == [("0", "default_pg"), ("1", "pair")]
    assert found.communicator.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert (found.called_ns > 1_790_000_000 * 10**9).all()
    assert (found.end_ns == UNKNOWN).all(), "gloo has no watchdog that sees the end"


def test_who_waits_is_seen_in_pickles(tmp_path: Path) -> None:
    flights = {rank: read_flight(DUMPS / f"rank{rank}.pickle") or [] for rank in (0, 1)}
    last = Call("0", "default_pg", 7, "all_to_all", is_done=False)
    assert flights[1][-1] == last
    flights[0] = flights[0][:-1]
    assert waits(flights, {"0": (0, 1)}) == [Wait(last, waiting=(1,), absent=(0,))]


ENTRY = {
    "process_group": ["7", "fsdp"], "collective_seq_id": 26, "p2p_seq_id": 0, "profiling_name": "nccl:_all_gather_base",
    "state": "completed", "is_p2p": False, "retired": True, "time_created_ns": 1_000_000_000,
    "time_discovered_started_ns": 1_002_000_000, "time_discovered_completed_ns": 1_005_000_000,
    "input_sizes": [[2, 3]], "input_dtypes": ["Half"], "output_sizes": [[8, 3]], "output_dtypes": ["Half"],
}  # fmt: skip
GROUPS = {"7": {"name": "7", "desc": "fsdp", "ranks": "[0, 2, 4, 6]"}}


def read(path: Path, *entries: object, **others: Any) -> Operations:
    path.write_text(json.dumps({"version": "2.10", "pg_config": GROUPS, "entries": entries} | others))
    return flight_recorder.read(path)


def test_times_sizes_and_groups(tmp_path: Path) -> None:
    found = read(tmp_path / "dump", ENTRY)
    assert found.communicators[0].ranks == 4
    assert (found.payload_bytes.tolist(), found.wire_bytes.tolist()) == ([48], [36])
    assert (found.called_ns.tolist(), found.sequence.tolist()) == ([1_000_000_000], [26])
    assert (found.begin_ns.tolist(), found.end_ns.tolist()) == ([1_002_000_000], [1_005_000_000])


@pytest.mark.parametrize(
    ("changes", "begin_ns", "end_ns"),
    [
        ({"duration_ms": 1.5}, 1_003_500_000, 1_005_000_000),
        ({"duration_ms": 1.5, "time_discovered_started_ns": None}, 1_003_500_000, 1_005_000_000),
        ({"time_discovered_completed_ns": None}, 1_002_000_000, UNKNOWN),
        ({"time_discovered_completed_ns": 0, "time_discovered_started_ns": 0}, UNKNOWN, UNKNOWN),
    ],
)
def test_what_has_not_happened_has_no_time(tmp_path: Path, changes: dict[str, Any], begin_ns: int, end_ns: int) -> None:
    found = read(tmp_path / "dump", ENTRY | changes)
    assert (found.begin_ns.tolist(), found.end_ns.tolist()) == ([begin_ns], [end_ns])


@pytest.mark.parametrize(("name", "function"), [("nccl:send 1->3", "send"), ("nccl:recv 1<-3", "recv")])
def test_sends_and_receives_name_their_peer(tmp_path: Path, name: str, function: str) -> None:
    found = read(tmp_path / "dump", ENTRY | {"profiling_name": name, "is_p2p": True, "p2p_seq_id": 9})
    assert found.words[int(found.function[0])] == function
    assert (found.peer.tolist(), found.sequence.tolist()) == ([3], [9])
    assert (found.payload_bytes.tolist(), found.wire_bytes.tolist()) == ([12], [12])
    assert read_flight(tmp_path / "dump") == []


@pytest.mark.parametrize(
    ("changes", "payload"),
    [
        ({"profiling_name": "nccl:_reduce_scatter_base"}, 12),
        ({"profiling_name": "nccl:all_gather", "output_sizes": [[2, 3]] * 4, "output_dtypes": ["Half"] * 4}, 48),
        ({"profiling_name": "nccl:scatter"}, UNKNOWN),
        ({"output_dtypes": ["QInt9"]}, UNKNOWN),
        ({"output_dtypes": []}, UNKNOWN),
        ({"output_sizes": [[1 << 40, 1 << 40]]}, UNKNOWN),
        ({"output_sizes": [[]]}, 2),
    ],
)
def test_payloads(tmp_path: Path, changes: dict[str, Any], payload: int) -> None:
    assert read(tmp_path / "dump", ENTRY | changes).payload_bytes.tolist() == [payload]


@pytest.mark.parametrize(
    "changes",
    [
        {"process_group": "7"}, {"collective_seq_id": None}, {"time_created_ns": 1 << 63}, {"time_created_ns": -5},
        {"input_sizes": [[2] * 65]}, {"input_sizes": [[-1]]}, {"duration_ms": float("nan")}, {"duration_ms": 1e300},
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_true_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read(tmp_path / "dump", ENTRY | changes, 5, ENTRY).sequence.tolist() == [26]


@pytest.mark.parametrize("groups", [None, [], {"7": 5}, {"7": {"ranks": "[0,"}}, {"7": {"ranks": "[]"}}])
def test_groups_whose_ranks_are_not_told(tmp_path: Path, groups: object) -> None:
    found = read(tmp_path / "dump", ENTRY, pg_config=groups)
    assert (found.communicators[0].ranks, found.wire_bytes.tolist()) == (None, [UNKNOWN])


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("\ud800"), inner, max_size=3),
    max_leaves=5,
)


@given(member=st.sampled_from(sorted(ENTRY)), value=ANY)
def test_whatever_stands_in_an_entry_it_is_a_row_or_none(
    tmp_path_factory: pytest.TempPathFactory, member: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("a") / "dump"
    assert len(read(path, ENTRY | {member: value}, pg_config={"7": value, "8": {"ranks": value}})) in (0, 1)
    calls = read_flight(path)
    assert calls is None or len(calls) in (0, 1)


def test_a_dump_of_nothing_is_empty_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "json").write_text('{"pg_config": {}, "pg_status": {}, "version": "2.10"}')  # no "entries": torch's way
    (tmp_path / "pickle").write_bytes(pickle.dumps({"version": "2.10", "pg_config": {}, "entries": []}, 2))
    for name in ("json", "pickle"):
        found = nccl_records.read(tmp_path / name)
        assert found is not None
        assert len(found) == 0
        assert read_flight(tmp_path / name) == []


def test_gzip_and_what_is_torn(tmp_path: Path) -> None:
    for form in ("json", "pickle"):
        data = (DUMPS / f"rank0.{form}").read_bytes()
        (tmp_path / "dump.gz").write_bytes(gzip.compress(data))
        assert_same(nccl_records.read(tmp_path / "dump.gz"), flight_recorder.read(DUMPS / f"rank0.{form}"))
        (tmp_path / "torn").write_bytes(data[:-9])
        with pytest.raises(UnreadableTraceError):
            nccl_records.read(tmp_path / "torn")
        assert read_flight(tmp_path / "torn") is None


def test_other_files_are_not_its(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text('{"distributedInfo": {"pg_config": []}, "traceEvents": []}')
    assert nccl_records.read(tmp_path / "trace.json") is None
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weights": [1.0]}))
    assert nccl_records.read(tmp_path / "model.pt") is None


LIVE = """
import sys, time
import torch, torch.distributed as dist
from torch._C import _distributed_c10d as c10d
store = dist.HashStore()
dist.init_process_group("gloo", store=store, rank=0, world_size=1)
for i in range(3):
    dist.all_reduce(torch.ones(i + 1))
for _ in range(500):
    text = c10d._dump_fr_trace_json()
    if b'"retired":false' not in text:
        break
    time.sleep(0.01)
open(sys.argv[1] + "/json", "wb").write(text)
open(sys.argv[1] + "/pickle", "wb").write(c10d._dump_fr_trace())
"""


def test_the_torch_that_is_installed_writes_what_is_read(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    subprocess.run([sys.executable, "-c", LIVE, tmp_path], check=True, timeout=120)
    found = nccl_records.read(tmp_path / "pickle")
    assert_same(found, nccl_records.read(tmp_path / "json"))
    assert found is not None
    assert found.payload_bytes.tolist() == [4, 8, 12]
    assert b"frames" in (tmp_path / "pickle").read_bytes(), "with stacks, whose frames are shared"
    assert read_flight(tmp_path / "pickle") == read_flight(tmp_path / "json")


def assert_same(one: Operations | None, other: Operations | None) -> None:
    assert one is not None
    assert other is not None
    assert (one.words, one.communicators) == (other.words, other.communicators)
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
