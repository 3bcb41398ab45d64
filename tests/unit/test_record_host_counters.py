"""What the operating system counts: this very process and its machine, and InfiniBand ports laid out in a folder."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardprof.recording.beside import node_ranks
from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.counters import host as host_counters
from shardprof.recording.counters import open_sources
from shardprof.recording.counters._process import Process
from shardprof.recording.counters.host import HostSource
from shardprof.trace.counter_names import COUNTERS
from shardprof.trace.schema import RankRecord, RunFolder, write_whole

MIB = 1 << 20


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are looked for at each sample."""
    for name in ("NEW_EVERY_S", "OURS_EVERY_S"):
        monkeypatch.setattr(node_ranks, name, 0.0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def source(run: RunFolder, tmp_path: Path) -> Iterator[HostSource]:
    source = HostSource(NodeRanks(run, "a"), infiniband_root=tmp_path / "infiniband")
    yield source
    source.close()


def check_in(run: RunFolder, rank: int, host: str = "a", pid: int | None = None, started_ns: int = 0) -> None:
    record = RankRecord(
        rank=rank,
        world_size=2,
        local_rank=rank,
        host=host,
        pid=os.getpid() if pid is None else pid,
        device="cpu",
        started_ns=started_ns,
        versions={},
    )
    run.rank(rank).mkdir(parents=True, exist_ok=True)
    write_whole(run.rank(rank) / "rank.json", record)


@pytest.fixture
def sleeping() -> Iterator[Callable[[], Any]]:
    """Starts processes that do nothing."""
    processes = []

    def start() -> Any:
        processes.append(subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1))
        processes[-1].stdout.readline()
        return processes[-1]

    yield start
    for process in processes:
        process.communicate()


def end(process: Any) -> None:
    process.communicate(b"\n")


def test_every_machine_has_the_source(run: RunFolder) -> None:
    assert "host" in [source.name for source in open_sources(NodeRanks(run, "a"), pytest.fail)]


def test_this_very_process_is_sampled(run: RunFolder, source: HostSource) -> None:
    check_in(run, 4)
    check_in(run, 5, host="b")
    with subprocess.Popen(["sh", "-c", "sh -c 'echo; read line'; true"], stdin=-1, stdout=-1) as family:
        assert family.stdout is not None
        family.stdout.readline()
        values = source.sample().values
        family.communicate(b"\n")
    assert "rank 5" not in values, "it is of another node"
    rank = values["rank 4"]
    assert rank["processes"] >= 3
    assert rank["threads"] >= threading.active_count()
    assert rank["rss_bytes"] > rank["uss_bytes"] > MIB
    assert rank["cpu_user_s"] + rank["cpu_system_s"] <= time.process_time() + 0.1
    again = source.sample().values["rank 4"]
    assert not {"processes", "uss_bytes"} & again.keys(), "what costs is told every few seconds only"
    totals = [name for name in rank if COUNTERS[name].is_cumulative]
    assert all(again[name] >= rank[name] for name in totals)


def test_a_rank_is_told_with_what_it_does(run: RunFolder, source: HostSource, tmp_path: Path) -> None:
    check_in(run, 0)
    before = source.sample().values["rank 0"]
    enough = threading.Event()
    waiting = threading.Thread(target=enough.wait)
    waiting.start()
    touched = mmap.mmap(-1, 16 * MIB)  # of no heap that has such memory already
    touched.write(os.urandom(16 * MIB))
    with (tmp_path / "written").open("wb") as file:
        file.write(touched)
        file.flush()
        os.fsync(file.fileno())
    begin = time.thread_time()
    while time.thread_time() < begin + 0.1:
        pass
    for _ in range(5):
        time.sleep(0.001)
    after = source.sample().values["rank 0"]
    enough.set()
    waiting.join()
    more = {name: after[name] - before[name] for name in after.keys() & before.keys()}
    assert more["threads"] == 1
    assert more["rss_bytes"] > 8 * MIB
    assert more["minor_page_faults"] > 0
    assert more["cpu_user_s"] + more["cpu_system_s"] >= 0.05
    assert more["main_thread_cpu_s"] >= 0.1
    assert more["voluntary_context_switches"] >= 5
    now = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    assert before["write_bytes"] <= after["write_bytes"] <= int(now["write_bytes"])


def test_the_main_thread_is_told_apart_from_the_others(run: RunFolder, source: HostSource) -> None:
    check_in(run, 0)
    before = source.sample().values["rank 0"]

    def burn() -> None:
        begin = time.thread_time()
        while time.thread_time() < begin + 0.2:
            sum(range(1000))

    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    begin_s = time.thread_time()
    after = source.sample().values["rank 0"]
    tick_s = 0.02  # the kernel adds up what runs at its ticks
    assert begin_s - tick_s <= after["main_thread_cpu_s"] <= time.thread_time()
    used_s = sum(after[name] - before[name] for name in ("cpu_user_s", "cpu_system_s"))
    assert used_s - (after["main_thread_cpu_s"] - before["main_thread_cpu_s"]) > 0.1


def test_a_rank_that_has_ended_is_left_out(run: RunFolder, source: HostSource, sleeping: Any) -> None:
    process = sleeping()
    check_in(run, 0, pid=process.pid)
    check_in(run, 1)
    assert source.sample().values.keys() >= {"rank 0", "rank 1"}
    os.kill(process.pid, 9)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert "rank 0" not in source.sample().values, "a zombie"
    end(process)
    values = source.sample().values
    assert "rank 0" not in values
    assert "rank 1" in values


def test_a_restarted_rank_is_found_again(
    run: RunFolder, source: HostSource, sleeping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sleeping(), sleeping()
    check_in(run, 0, pid=first.pid, started_ns=1)
    source.sample()
    end(first)
    monkeypatch.setattr(host_counters, "RARELY_S", 0.0)
    assert "rank 0" not in source.sample().values
    check_in(run, 0, pid=second.pid, started_ns=1)
    assert "rank 0" not in source.sample().values, "what has ended may have left its pid to anybody"
    check_in(run, 0, pid=second.pid, started_ns=2)
    assert source.sample().values["rank 0"]["processes"] == 1


def start_as(pid: int, start: Callable[[], Any]) -> Any:
    """A process with this pid, which the kernel may give out again by itself once its owner has ended."""
    for _ in range(50):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError:
            pytest.skip("pids cannot be chosen here")
        process = start()
        if process.pid == pid:
            return process
        end(process)
    pytest.skip("the pid was never free")


def test_another_process_with_the_same_pid_is_not_taken_for_the_rank(sleeping: Any) -> None:
    first = sleeping()
    process = Process(first.pid)
    process.values()
    end(first)
    start_as(first.pid, sleeping)
    with pytest.raises(ProcessLookupError):
        process.values()
    assert process.own_memory() == {}
    process.close()


def test_a_rank_that_was_never_asked_before_it_ended_has_ended(sleeping: Any) -> None:
    ended = sleeping()
    process = Process(ended.pid)
    end(ended)
    with pytest.raises(ProcessLookupError):
        process.values()
    process.close()


def test_a_process_that_cannot_be_had_is_no_rank(run: RunFolder, source: HostSource) -> None:
    check_in(run, 0, pid=2**22 + 1)
    (run.rank(1)).mkdir()
    assert not [subject for subject in source.sample().values if subject.startswith("rank")]
    check_in(run, 1)
    assert "rank 1" in source.sample().values, "it had not been written yet"


ASK_AS_ANOTHER_USER = """
import json, os, sys
from shardprof.recording.counters._process import Process
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
process = Process(int(sys.argv[1]))
print(json.dumps(process.values() | process.own_memory()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_must_not_be_read_is_left_out_alone() -> None:
    command = [sys.executable, "-c", ASK_AS_ANOTHER_USER, str(os.getpid())]
    values = json.loads(subprocess.run(command, check=True, timeout=30, capture_output=True).stdout)
    assert not {"read_bytes", "write_bytes", "uss_bytes"} & values.keys()
    assert values.keys() >= {"rss_bytes", "main_thread_cpu_s", "voluntary_context_switches"}


def test_the_node_is_told(source: HostSource) -> None:
    before = source.sample().values["node"]
    assert "cpu_percent" not in before or 0 <= before["cpu_percent"] <= 100
    begin = time.thread_time()
    while time.thread_time() < begin + 0.1:
        pass
    after = source.sample().values["node"]
    assert 0 < after["cpu_percent"] <= 100
    assert after["cpu_user_s"] + after["cpu_system_s"] > before["cpu_user_s"] + before["cpu_system_s"]
    assert after["memory_used_bytes"] > MIB
    assert after["memory_available_bytes"] > MIB
    assert after.keys() >= {"swap_used_bytes", "swap_in_bytes", "swap_out_bytes"}
    if Path("/proc/pressure/cpu").exists():
        assert after["cpu_pressure_s"] >= before["cpu_pressure_s"] >= 0


def test_interfaces_and_infiniband_ports_are_told(run: RunFolder, tmp_path: Path) -> None:
    root = tmp_path / "infiniband"
    for port, files in {
        "mlx5_0/ports/1": {"port_xmit_data": "1000\n", "port_rcv_data": "2000\n"},
        "mlx5_1/ports/1": {"port_xmit_data": "N/A\n", "port_rcv_data": "3\n"},
        "mlx5_1/ports/2": {},
    }.items():
        (root / port / "counters").mkdir(parents=True)
        for name, text in files.items():
            (root / port / "counters" / name).write_text(text)
    values = HostSource(NodeRanks(run, "a"), infiniband_root=root).sample().values
    assert values["mlx5_0/1"] == {"tx_bytes": 4000, "rx_bytes": 8000}
    assert values["mlx5_1/1"] == {"rx_bytes": 12}
    assert "mlx5_1/2" not in values
    assert values["lo"].keys() == {"tx_bytes", "rx_bytes", "tx_errors", "rx_errors", "tx_drops", "rx_drops"}


def test_every_counter_has_a_name_for_people(run: RunFolder, source: HostSource) -> None:
    check_in(run, 0)
    for _ in range(2):
        for subject, counters in source.sample().values.items():
            assert counters.keys() <= COUNTERS.keys(), subject
    assert {name: COUNTERS[name].unit for name in ("rss_bytes", "cpu_user_s", "threads", "cpu_percent")} == {
        "rss_bytes": "B", "cpu_user_s": "s", "threads": "", "cpu_percent": "%"
    }  # fmt: skip
    assert COUNTERS["nvlink_tx_bytes_per_s"].unit == "B/s"
