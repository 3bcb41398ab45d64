"""NCCL's account joined to the run: which kernel is which operation, what groups are called, what calls cost."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardprof
from shardprof.analysis.nccl import NcclTable
from shardprof.analysis.report import analyse
from shardprof.render import terminal
from shardprof.trace.collectives import UNKNOWN, Collective, ProcessGroup, as_columns
from shardprof.trace.nccl import operations as nccl
from shardprof.trace.nccl.matching import groups_of, match
from shardprof.trace.nccl.naming import named
from shardprof.trace.nccl.operations import Communicator, Operation
from shardprof.trace.nccl.process import NcclRecords
from shardprof.trace.run import load
from shardprof.trace.schema import ProcessGroup as TorchGroup
from shardprof.trace.timeline import write_timeline

from .planted_rings import Planted, plant

RUN = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks"
WORLD = TorchGroup(name="0", description="default_pg", backend="cuda:nccl", ranks=(0, 1))
SHARD = TorchGroup(name="1", description="mesh_shard", backend="cuda:nccl", ranks=(1, 3))


def operation(
    begin_ns: int, lasts_ns: int = 100, communicator: int = 0, function: str = "AllGather", **told: int
) -> Operation:
    facts = {"payload_bytes": 1000, "sequence": 0} | told
    return Operation(
        communicator=communicator, function=function, begin_ns=begin_ns, end_ns=begin_ns + lasts_ns, **facts
    )


def records(
    told: list[Operation], communicators: list[Communicator], in_flight: list[int] | None = None
) -> NcclRecords:
    return NcclRecords(
        source="plugin",
        operations=nccl.as_columns(told, communicators),
        in_flight=np.array(in_flight or [], dtype=np.int64),
        lost={},
    )


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 3))
def test_a_window_of_kernels_is_found_among_all_operations(seed: int, captured: int, others: int) -> None:
    """Kernels are some operations in a row, seen a little apart; other communicators run the same at other times."""
    chance = random.Random(seed)
    communicators = [Communicator(hash=i, rank=0, ranks=8) for i in range(1 + others)]
    begins = {
        place: np.cumsum([chance.randint(20_000, 90_000) for _ in range(100)]) + 10**9 for place in range(1 + others)
    }
    told = [operation(int(b), 5000, place) for place, all_of in begins.items() for b in all_of]
    table = nccl.as_columns(told, communicators)
    first = chance.randint(0, 100 - captured)
    group = ProcessGroup(name="7", description="shard", size=8, ranks=None)
    off_ns = chance.randint(-3000, 3000)
    kernels = as_columns(
        [
            Collective(
                kind="all_gather", launched_ns=0, begin_ns=int(begin) + off_ns + chance.randint(-900, 900) - 10**9,
                end_ns=10**12, payload_bytes=1000, wire_bytes=None, group=group,
            )
            for begin in begins[0][first : first + captured]
        ]
    )  # fmt: skip
    found = match(table, kernels, base_ns=10**9)
    if others and captured < 5:  # so few may lie as near to another's
        assert (found >= 0).all()
        return
    assert found.tolist() == list(range(first, first + captured))
    assert groups_of(table, kernels, found) == {0: "shard"}


def test_kernels_without_operations_are_matched_with_none() -> None:
    table = nccl.as_columns([operation(10**9)], [Communicator(hash=1, rank=0, ranks=8)])
    kernel = Collective(
        kind="all_gather", launched_ns=0, begin_ns=0, end_ns=1, payload_bytes=1000, wire_bytes=None, group=None
    )
    assert match(table, as_columns([kernel]), base_ns=10**9).tolist() == [0]
    assert match(table, as_columns([kernel]), base_ns=5 * 10**9).tolist() == [UNKNOWN]  # seconds away
    other_size = as_columns([Collective(**{f: getattr(kernel, f) for f in kernel.__slots__} | {"payload_bytes": 2})])
    assert match(table, other_size, base_ns=10**9).tolist() == [UNKNOWN]


def test_a_communicator_is_the_only_group_that_fits() -> None:
    groups = (WORLD, SHARD)
    mine = Communicator(hash=1, rank=1, ranks=2)
    (of_rank_1,) = named([mine], 1, [WORLD])
    assert of_rank_1.description == "default_pg"
    (of_rank_3,) = named([mine], 3, groups)
    assert of_rank_3.description == "mesh_shard"
    (as_rank_0,) = named([Communicator(hash=1, rank=0, ranks=2)], 1, groups)
    assert as_rank_0.description == "mesh_shard"  # rank 1 is the second of the world
    assert named([Communicator(hash=1, rank=0, ranks=4)], 1, groups)[0].group is None
    gloo = TorchGroup(name="0", description="default_pg", backend="gloo", ranks=(0, 1))
    assert named([mine], 1, [gloo])[0].group is None


def test_calls_by_hand() -> None:
    """Two ranks, three all-gathers of 1000 bytes: the rank that comes last waits least."""
    table = NcclTable()
    times = {0: [500, 100, 300], 1: [200, 400, 250]}
    for rank, lasts in times.items():
        told = [operation(1000 * i, ns, sequence=i) for i, ns in enumerate(lasts)]
        told += [operation(9000, 50, function="AllReduce", sequence=0)] if rank == 0 else []
        table.add_rank(rank, records(told, [Communicator(hash=5, rank=rank, ranks=2)]), {})
    result = table.result([WORLD])
    assert result is not None
    gathers, reduces = result.calls
    assert (gathers.kind, gathers.group, gathers.group_size, gathers.calls) == ("all_gather", "default_pg", 2, 3)
    assert gathers.median_ns == 275  # of 100, 200, 250, 300, 400, 500
    assert gathers.transfer_ns == 200  # of 200, 100, 250
    assert gathers.algbw_gbps == pytest.approx(5.0)
    assert gathers.busbw_gbps == pytest.approx(2.5)
    assert (reduces.function, reduces.calls) == ("AllReduce", 1)
    assert reduces.busbw_gbps == pytest.approx(1000 / 50 * 1.0)


def test_groups_with_the_same_members_are_named_together_unless_kernels_tell() -> None:
    twin = TorchGroup(name="2", description="fsdp", backend="nccl", ranks=(0, 1))
    told = [operation(0)]
    for groups, expected in (({}, "default_pg or fsdp"), ({0: "fsdp"}, "fsdp")):
        table = NcclTable()
        for rank in (0, 1):
            table.add_rank(rank, records(told, [Communicator(hash=5, rank=rank, ranks=2)]), groups)
        result = table.result([WORLD, twin])
        assert result is not None
        assert result.calls[0].group == expected


def test_what_never_ended_is_told_with_its_ranks() -> None:
    table = NcclTable()
    for rank in (0, 2):
        told = [operation(0, sequence=1), Operation(communicator=0, function="AllReduce", sequence=9, begin_ns=5)]
        table.add_rank(rank, records(told, [Communicator(hash=5, rank=rank, ranks=3)], in_flight=[1]), {})
    result = table.result([])
    assert result is not None
    (call,) = result.unfinished
    assert (call.function, call.sequence, call.ranks, call.payload_bytes) == ("AllReduce", 9, (0, 2), None)


def test_no_account_is_none() -> None:
    assert NcclTable().result([WORLD]) is None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A recorded run of two ranks, as if NCCL had told of it: 200 gathers, some in captured steps, one unfinished."""
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder, ignore=shutil.ignore_patterns("expected.json", ".shardprof-cache"))
    for rank in (0, 1):
        file = folder / f"ranks/{rank:05d}/rank.json"
        record = json.loads(file.read_text())
        record["process_groups"] = [{**group, "backend": "cuda:nccl"} for group in record["process_groups"]]
        file.write_text(json.dumps(record))
        steps = [json.loads(line) for line in (file.with_name("steps.jsonl")).read_text().splitlines()]
        begin_ns = min(step["begin_ns"] for step in steps if step.get("captured"))
        calls = [
            Planted(function="AllGather", count=10**6, sequence=i, begin_ns=begin_ns + (i - 50) * 10**6,
                    end_ns=begin_ns + (i - 50) * 10**6 + 200_000 + 50_000 * ((i + rank) % 2) if i < 199 else None)
            for i in range(200)
        ]  # fmt: skip
        plant(folder / "nccl" / record["host"], record["pid"], [(0xABC, rank, 2)], calls)
    return folder


def test_a_report_tells_what_nccl_told(run: Path) -> None:
    result = analyse(load([run]))
    assert result.nccl is not None
    (row,) = result.nccl.calls
    assert (row.kind, row.group, row.group_size, row.calls) == ("all_gather", "default_pg", 2, 200)
    assert row.payload_bytes == 8 * 10**6
    assert row.transfer_ns == 200_000
    assert row.p99_ns == 250_000
    assert row.algbw_gbps == pytest.approx(40.0)
    assert (row.algorithm, row.protocol, row.channels) == ("RING", "SIMPLE", 4)
    (call,) = result.nccl.unfinished
    assert (call.sequence, call.ranks) == (199, (0, 1))
    shown = io.StringIO()
    terminal.render(result, shown)
    assert "20.0 GB/s" in shown.getvalue()
    assert "RING SIMPLE x 4" in shown.getvalue()


def test_a_timeline_has_a_track_a_communicator(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "timeline.json.gz"
    write_timeline(load([run]), out)
    events = json.loads(gzip.decompress(out.read_bytes()))["traceEvents"]
    threads = {e["tid"] for e in events if e["name"] == "thread_name" and "NCCL" in e["args"]["name"]}
    names = {e["args"]["name"] for e in events if e["tid"] in threads and e["ph"] == "M" and "name" in e["args"]}
    assert names == {"NCCL · default_pg · 2 ranks · 0xabc"}
    slices = [e for e in events if e["ph"] == "X" and e["tid"] in threads]
    assert len(threads) == 2
    assert slices
    assert {e["name"] for e in slices} == {"AllGather"}
    assert {round(e["dur"]) for e in slices} == {200, 250}
    assert slices[0]["args"]["algorithm"] == "RING"


def test_frames_of_operations_and_of_collectives(run: Path) -> None:
    frame = shardprof.load(run).nccl()
    assert len(frame) == 400
    first = frame.row(0, named=True)
    assert (first["rank"], first["kind"], first["function"], first["group"]) == (
        0,
        "all_gather",
        "AllGather",
        "default_pg",
    )
    assert (first["communicator"], first["group_size"], first["channels"]) == ("0xabc", 2, 4)
    assert first["algbw_gbps"] == pytest.approx(8e6 / (first["end_ns"] - first["begin_ns"]))
    assert frame["end_ns"].null_count() == 2  # those that never ended
    way = shardprof.load(run).collectives().select("algorithm", "protocol", "channels", "transport").unique()
    assert way.rows() == [(None, None, None, None)]  # the gathers of this run are of other sizes


def test_each_captured_collective_is_joined_to_its_operation(run: Path) -> None:
    """The planted operations are the run's own collectives, of each kind and size, told a little apart."""
    names = {"all_gather": "AllGather", "reduce_scatter": "ReduceScatter", "all_reduce": "AllReduce"}
    for file in run.glob("nccl/*/*"):
        file.unlink()
    plain = shardprof.load(run).collectives()
    told = plain.filter(plain["kind"].is_in(list(names)) & plain["payload_bytes"].is_not_null())
    for (rank,), rows in told.group_by("rank"):
        record = json.loads((run / f"ranks/{rank:05d}/rank.json").read_text())
        calls = [
            Planted(
                function=names[row["kind"]], sequence=i, begin_ns=row["begin_ns"] + 300, end_ns=row["end_ns"] + 300,
                count=row["payload_bytes"] // 4 // (1 if row["kind"] == "all_reduce" else 2), channels=1 + i % 5,
            )
            for i, row in enumerate(rows.sort("begin_ns").to_dicts())
        ]  # fmt: skip
        plant(run / "nccl" / record["host"], record["pid"], [(0xABC, rank, 2)], calls)
    joined = shardprof.load(run).collectives()
    for rank in (0, 1):
        of_rank = joined.filter((joined["rank"] == rank) & joined["kind"].is_in(list(names))).sort("begin_ns")
        of_rank = of_rank.filter(of_rank["payload_bytes"].is_not_null())
        assert len(of_rank) > 30
        assert of_rank["channels"].to_list() == [1 + i % 5 for i in range(len(of_rank))]
        assert set(of_rank["algorithm"].to_list()) == {"RING"}


@given(st.lists(st.tuples(*[st.integers(-(2**62), 2**62)] * 3), max_size=30), st.integers(0, 4))
def test_rows_that_are_alike_are_found(rows: list[tuple[int, int, int]], copies: int) -> None:
    told = np.array(rows * (1 + copies), dtype=np.int64).reshape(-1, 3)
    first, which = nccl.alike([told[:, i] for i in range(3)])
    assert (told[first][which] == told).all()
    assert len(first) == len(set(map(tuple, told.tolist())))


def test_calls_that_share_a_kernel_have_no_bandwidth() -> None:
    """Two gathers that NCCL put into one kernel seem to last as long as both; a third one ran alone."""
    told = [operation(0, 9000, sequence=0), operation(200, 8900, sequence=1), operation(50_000, 4000, sequence=2)]
    table = NcclTable()
    table.add_rank(0, records(told, [Communicator(hash=5, rank=0, ranks=2)]), {})
    result = table.result([])
    assert result is not None
    (row,) = result.calls
    assert (row.calls, row.median_ns, row.transfer_ns) == (3, 8900, 4000)


def test_operations_of_a_log_are_found_by_when_they_were_launched() -> None:
    told = [
        Operation(communicator=0, function="AllGather", payload_bytes=1000, enqueued_ns=10**9 + i * 50_000)
        for i in range(20)
    ]
    table = nccl.as_columns(told, [Communicator(hash=None, rank=0, ranks=8)])
    kernels = [
        Collective(
            kind="all_gather", launched_ns=i * 50_000 + 700, begin_ns=10**8 + i, end_ns=10**8 + i + 1,
            payload_bytes=1000, wire_bytes=None, group=ProcessGroup(name="7", description="shard", size=8, ranks=None),
        )
        for i in range(5, 9)
    ]  # fmt: skip
    found = match(table, as_columns(kernels), base_ns=10**9)
    assert found.tolist() == [5, 6, 7, 8]
    assert groups_of(table, as_columns(kernels), found) == {0: "shard"}
