"""The records of NCCL's plugin, played through the plugin itself: what is read while it runs, after it was killed, and
once its recorder has put them away."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardprof.recording.beside.nccl_rings import NcclRings
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.importers import nccl_plugin
from shardprof.trace.importers.nccl_plugin import PluginRecords
from shardprof.trace.nccl import ring
from shardprof.trace.nccl.operations import COLUMNS

from .nccl_player import EVENTS
from .planted_rings import Planted, plant

PLAYER = Path(__file__).with_name("nccl_player.py")
PLAYED = 2000


def start(folder: Path, collectives: int, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "SHARDPROF_NCCL_FOLDER": str(folder), "SHARDPROF_NCCL_EVENTS": str(EVENTS)}
    command = [sys.executable, str(PLAYER), str(collectives), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def played(folder: Path, collectives: int, *options: str) -> Path:
    with start(folder, collectives, *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "played\n"
        process.kill()
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A player that was killed with all of its records in the ring."""
    return played(tmp_path_factory.mktemp("killed"), PLAYED)


def only(folder: Path) -> PluginRecords:
    (process,) = {file.name.split(".")[1] for file in folder.glob("nccl.*")}
    records = nccl_plugin.read(folder, process)
    assert records is not None
    return records


def test_a_killed_process_left_all_that_it_had_told(killed: Path) -> None:
    records = only(killed)
    told = records.operations
    assert len(told) == PLAYED
    assert told.sequence.tolist() == list(range(PLAYED))
    assert told.payload_bytes[:5].tolist() == [4000, 4004, 4008, 4012, 4000]  # count x 2 ranks x 2 bytes
    assert told.wire_bytes[:2].tolist() == [2000, 2002]
    assert {told.words[i] for i in told.function.tolist()} == {"AllGather"}
    assert {told.words[i] for i in told.algorithm.tolist()} == {"RING"}
    assert {told.words[i] for i in told.protocol.tolist()} == {"LL128"}
    assert set(told.channels.tolist()) == {2}
    (communicator,) = told.communicators
    assert (communicator.hash, communicator.rank, communicator.ranks) == (0xABC, 0, 2)
    assert not records.lost
    assert not len(records.in_flight)


def test_times_of_the_gpu_are_tied_to_the_hosts_clock(killed: Path) -> None:
    records = only(killed)
    told = records.operations
    assert set((told.end_ns - told.begin_ns).tolist()) == {1000}  # exactly the GPU timer's
    assert (told.called_ns <= told.enqueued_ns).all()
    assert (told.enqueued_ns < told.end_ns).all()
    assert records.timer_residual_ns is not None
    assert 0 <= records.timer_residual_ns < 100_000
    # The player began each right after its enqueue: that the two clocks are tied shows in how little lies between.
    assert np.median(np.abs(told.begin_ns - told.enqueued_ns)) < 200_000


def test_what_has_not_ended_is_told_as_in_flight(tmp_path: Path) -> None:
    code = (
        "import os, signal; from nccl_player import Player; p = Player(7, rank=3, ranks=8); p.all_gather(0, 10); "
        "p.all_gather(1, 10, ends=False); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "SHARDPROF_NCCL_FOLDER": str(tmp_path), "SHARDPROF_NCCL_EVENTS": str(EVENTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=PLAYER.parent)
    assert done.returncode == -signal.SIGKILL
    records = only(tmp_path)
    assert records.operations.sequence.tolist() == [0, 1]
    assert records.in_flight.tolist() == [1]
    assert records.operations.end_ns[1] == UNKNOWN
    assert records.operations.communicators[0].rank == 3


@pytest.fixture
def rings(tmp_path: Path) -> Iterator[tuple[NcclRings, list[str]]]:
    notes: list[str] = []
    yield NcclRings(tmp_path, notes.append), notes
    assert not notes


def test_a_recorder_takes_more_than_the_ring_holds(tmp_path: Path, rings: tuple[NcclRings, list[str]]) -> None:
    recorder, _ = rings
    many = ring.FORMAT["ring_slots"] * 2  # a call and a collective each
    recorder.start()
    played(tmp_path, many)
    recorder.stop()
    assert sorted(path.name.split(".", 2)[2] for path in tmp_path.iterdir()) == ["records.gz", "state.gz"]
    records = only(tmp_path)
    assert len(records.operations) + records.lost.get("dropped", 0) >= many
    assert records.operations.sequence.tolist() == sorted(set(records.operations.sequence.tolist()))


def test_what_was_put_away_reads_like_what_lay_in_the_ring(killed: Path, tmp_path: Path) -> None:
    before = only(killed)
    for file in killed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    NcclRings(tmp_path, pytest.fail).stop()
    after = only(tmp_path)
    assert not list(tmp_path.glob("*.ring"))
    for column in ("sequence", "begin_ns", "end_ns", "payload_bytes", "called_ns"):
        assert (getattr(after.operations, column) == getattr(before.operations, column)).all()


def test_kept_records_are_read_up_to_their_damage(killed: Path, tmp_path: Path) -> None:
    for file in killed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    NcclRings(tmp_path, pytest.fail).stop()
    (kept,) = tmp_path.glob("*.records.gz")
    whole = kept.read_bytes()
    kept.write_bytes(whole + gzip.compress(b"x" * 1000)[:-30])  # a recorder that was killed while it wrote
    assert len(only(tmp_path).operations) == PLAYED
    kept.write_bytes(whole[: len(whole) // 2])
    some = len(only(tmp_path).operations)
    assert 0 < some < PLAYED
    kept.write_bytes(b"no gzip at all")
    assert len(only(tmp_path).operations) == 0


def test_a_file_that_is_no_ring_is_none(tmp_path: Path) -> None:
    notes: list[str] = []
    for size in (0, 100, ring.RING_BYTES):
        (tmp_path / "nccl.77.ring").write_bytes(bytes(size))
        assert nccl_plugin.read(tmp_path, "77") is None
        NcclRings(tmp_path, notes.append).stop()
        assert not list(tmp_path.glob("*.gz"))
    assert nccl_plugin.read(tmp_path, "78") is None


def test_a_ring_still_being_written_ends_at_the_record_that_is_not_whole(killed: Path) -> None:
    (file,) = killed.glob("*.ring")
    data = bytearray(file.read_bytes())
    header = np.frombuffer(data, ring.HEADER, 1)
    slots = np.frombuffer(data, ring.OPERATION, ring.FORMAT["ring_slots"], ring.FORMAT["ring_offset"])
    slots["stamp"][10] = 0
    view = memoryview(data)
    records, tail = ring.take(view, writer_is_dead=False)
    assert (len(records), tail) == (10, 10)
    ring.set_tail(view, tail)
    assert header["tail"][0] == 10
    records, tail = ring.take(view, writer_is_dead=True)
    assert tail == header["head"][0]
    assert len(records) == tail - 11


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from(["header", "tables", "slots", "ring", "anywhere"]))
def test_no_damage_stops_a_reader(killed: Path, tmp_path: Path, seed: int, hits: int, where: str) -> None:
    """Bytes of each part written over at random, all bits among them: something or nothing is read, never an error."""
    chance = random.Random(seed)
    (file,) = killed.glob("*.ring")
    data = bytearray(file.read_bytes())
    first, last = {
        "header": (8, 600), "tables": (ring.FORMAT["strings_offset"], ring.FORMAT["in_flight_offset"]),
        "slots": (ring.FORMAT["in_flight_offset"], ring.STATE_BYTES),
        "ring": (ring.STATE_BYTES, ring.STATE_BYTES + 128 * 5000), "anywhere": (8, len(data)),
    }[where]  # fmt: skip
    for _ in range(hits):
        place = chance.randrange(first, last - 8)
        data[place : place + 8] = chance.choice([bytes(8), b"\xff" * 8, chance.randbytes(8)])
    (tmp_path / "nccl.5.ring").write_bytes(data)
    records = nccl_plugin.read(tmp_path, "5")
    if records is not None:
        told = records.operations
        assert all(len(getattr(told, column)) == len(told) for column in COLUMNS)
        assert (told.function < len(told.words)).all()


def test_what_was_cut_off_with_its_communicator_never_ended(tmp_path: Path) -> None:
    given_up = Planted(
        function="AllReduce", count=1, sequence=3, begin_ns=10**18, end_ns=10**18 + 9, flags=ring.INCOMPLETE
    )
    done = Planted(function="AllReduce", count=1, sequence=2, begin_ns=10**18, end_ns=10**18 + 9)
    plant(tmp_path, 5, [(1, 0, 2)], [done, given_up])
    assert only(tmp_path).in_flight.tolist() == [1]


def test_a_call_that_never_comes_as_an_operation_is_told_as_a_call(tmp_path: Path) -> None:
    """As NCCL does with broadcasts and symmetric kernels; other calls are there as what they asked for."""
    facts = {"count": 1, "sequence": 0, "begin_ns": 10**18, "end_ns": 10**18 + 9}
    calls = [
        Planted(function="Broadcast", kind=ring.CALL, **facts), Planted(function="AllGather", kind=ring.CALL, **facts),
        Planted(function="AllGather", **facts),
    ]  # fmt: skip
    plant(tmp_path, 5, [(1, 0, 2)], calls)
    told = only(tmp_path).operations
    assert [told.words[i] for i in told.function.tolist()] == ["Broadcast", "AllGather"]
    assert told.called_ns[0] == 10**18 - 6000
    assert told.sequence.tolist() == [UNKNOWN, 0]


def test_what_proxies_did_is_read(tmp_path: Path) -> None:
    file = plant(
        tmp_path, 5, [(1, 0, 2)], [Planted(function="Send", count=1, sequence=0, begin_ns=10**18, end_ns=10**18 + 2)]
    )
    data = bytearray(file.read_bytes())
    record = np.frombuffer(data, ring.PROXY_OPERATION, 2, ring.FORMAT["ring_offset"])[1:]
    for name, value in {"stamp": 2, "kind": ring.PROXY, "flags": ring.SENDS, "moved_bytes": 77, "peer": 1}.items():
        record[name] = value
    np.frombuffer(data, ring.HEADER, 1)["head"] = 2
    file.write_bytes(data)
    told = nccl_plugin.read_proxies(tmp_path, "5")
    assert told is not None
    assert (told[0]["moved_bytes"].tolist(), told[0]["peer"].tolist()) == ([77], [1])
    assert len(only(tmp_path).operations) == 1


def test_what_is_kept_while_a_ring_is_read_counts_once(killed: Path, tmp_path: Path) -> None:
    """A recorder that was killed after it had kept records and before it gave their places back."""
    (file,) = killed.glob("*.ring")
    (tmp_path / file.name).write_bytes(file.read_bytes())
    records, _ = ring.take(file.read_bytes(), writer_is_dead=True)
    kept = tmp_path / file.name.replace(".ring", ".records.gz")
    kept.write_bytes(gzip.compress(records[:1500].tobytes()))
    assert only(tmp_path).operations.sequence.tolist() == list(range(PLAYED))
