"""Which of NCCL's sources a report rests on: the plugin with the log beside it, the log alone, other tools' files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import shardprof
from shardprof.analysis.report import analyse
from shardprof.cli import main
from shardprof.trace.run import load

from .planted_rings import Planted, plant

RUN = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks"
DUMPS = Path(__file__).parent / "data" / "flight_recorder"
MADE = (
    "[1767225600.000000500] node:{pid}:9 [0] NCCL INFO ncclCommInitRankConfig comm 0xaa00 rank {rank} nranks 2 "
    "cudaDev 0 nvmlDev 0 busId 1b000 commId 0xabc - Init {word}\n"
)
LINKED = (
    "node:{pid}:9 [0] NCCL INFO Channel 00/0 : {rank}[0] -> {other}[0] [send] via NET/IB/0/GDRDMA\n"
    "node:{pid}:9 [0] NCCL INFO Channel 01/0 : {rank}[0] -> {other}[0] [send] via NET/IB/1/GDRDMA\n"
)
CALLED = (
    "[1767225602.000000000] node:{pid}:{pid} [0] NCCL INFO AllReduce: opCount {n} sendbuff 0x7f0 recvbuff 0x7f0 "
    "count 1048576 datatype 9 op 0 root 0 comm 0xaa00 [nranks=2] stream 0x55\n"
    "[1767225602.000000030] node:{pid}:{pid} [0] NCCL INFO AllReduce: 2097152 Bytes -> Algo TREE proto LL128 "
    "channel{{Lo..Hi}}={{0..1}}\n"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder, ignore=shutil.ignore_patterns("expected.json", ".shardprof-cache"))
    return folder


def write_logs(run: Path, calls: int) -> None:
    for rank in (0, 1):
        record = json.loads((run / f"ranks/{rank:05d}/rank.json").read_text())
        about = {"pid": record["pid"], "rank": rank, "other": 1 - rank}
        text = MADE.format(word="START", **about) + LINKED.format(**about) + MADE.format(word="COMPLETE", **about)
        text += "".join(CALLED.format(n=n, **about) for n in range(calls))
        folder = run / "nccl" / record["host"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"nccl.node.{record['pid']}.log").write_text(text)


def test_the_plugin_tells_of_calls_and_the_log_of_links(run: Path) -> None:
    write_logs(run, calls=3)
    for rank in (0, 1):
        record = json.loads((run / f"ranks/{rank:05d}/rank.json").read_text())
        call = Planted(function="AllGather", count=10, sequence=0, begin_ns=10**18, end_ns=10**18 + 100)
        plant(run / "nccl" / record["host"], record["pid"], [(0xABC, rank, 2)], [call])
    result = analyse(load([run]))
    assert result.nccl is not None
    assert result.nccl.source == "plugin"
    (row,) = result.nccl.calls
    assert (row.function, row.transport, row.transfer_ns) == ("AllGather", "NET/IB/GDRDMA", 100)
    assert set(shardprof.load(run).nccl()["transport"]) == {"NET/IB/GDRDMA"}


def test_without_the_plugin_the_log_tells_of_calls(run: Path) -> None:
    write_logs(run, calls=3)
    result = analyse(load([run]))
    assert result.nccl is not None
    assert result.nccl.source == "log"
    (row,) = result.nccl.calls
    assert (row.function, row.calls, row.group_size, row.payload_bytes) == ("AllReduce", 3, 2, 2097152)
    assert (row.algorithm, row.protocol, row.channels, row.transport) == ("TREE", "LL128", 2, "NET/IB/GDRDMA")
    assert row.median_ns is None
    assert row.busbw_gbps is None


def test_a_run_of_gloo_has_no_account(run: Path) -> None:
    assert analyse(load([run])).nccl is None
    (run / "nccl" / "node").mkdir(parents=True)
    assert analyse(load([run])).nccl is None


def test_dumps_of_the_flight_recorder_are_reported_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        shutil.copy(DUMPS / f"rank{rank}.pickle", tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "2 ranks" in shown
    assert "Only the last collectives are told" in shown
    assert "NCCL" not in shown  # these are of gloo
    assert "the last calls, told by torch's flight recorder" in " ".join(shown.split())
    assert "all-gather" in shown
    result = analyse(load([tmp_path]))
    assert result.nccl is not None
    assert result.nccl.source == "flight recorder"
    assert {row.kind for row in result.nccl.calls} >= {"all_gather", "all_reduce", "all_to_all", "broadcast"}


def test_a_folder_of_traces_stays_one(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    shutil.copy(run / "ranks/00000/trace.json.gz", folder / "rank0.json.gz")
    shutil.copy(DUMPS / "rank0.pickle", folder)
    result = analyse(load([folder]))
    assert result.nccl is None
    assert result.summary is not None
    assert result.summary.steps is not None


def test_a_dump_of_a_rank_that_stood_still_is_the_last_resort(run: Path) -> None:
    for rank in (0, 1):
        shutil.copy(DUMPS / f"rank{rank}.json", run / f"ranks/{rank:05d}/flight.json")
    result = analyse(load([run]))
    assert result.nccl is not None
    assert result.nccl.source == "flight recorder"
    write_logs(run, calls=1)
    result = analyse(load([run]))
    assert result.nccl is not None
    assert result.nccl.source == "log"


def test_the_logs_of_a_run_are_explained_by_its_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(run, calls=2)
    assert main(["nccl-log", str(run)]) == 0
    assert "2 ranks" in capsys.readouterr().out
    (run / "empty").mkdir()
    assert main(["nccl-log", str(run / "empty")]) == 2
    assert "there are no logs in" in capsys.readouterr().err
