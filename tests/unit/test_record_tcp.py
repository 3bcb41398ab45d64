"""TCP counters: connections to other machines only, told by the kernel, added up over those that are gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shardprof.recording.counters import tcp
from shardprof.recording.counters.tcp import Connection, TcpSource, connections
from shardprof.trace.counter_names import COUNTERS
from shardprof.trace.schema import RankRecord

SENDER = """
import socket, sys, time
server = socket.create_server(("10.99.0.2", 0))
client = socket.create_connection(server.getsockname(), source_address=("10.99.0.1", 0))
peer, _ = server.accept()
client.setblocking(False)
sent = received = 0
while True:
    try:
        sent += client.send(b"x" * 65536)
    except BlockingIOError:  # nobody reads: bytes are on their way until somebody does
        break
time.sleep(0.3)
while received < sent:
    received += len(peer.recv(1 << 16))
time.sleep(0.2)
print(sent)
from shardprof.recording.counters.tcp import connections
for connection in connections():
    print(connection.inode, connection.acked_bytes, connection.busy_us, connection.retransmits)
"""


class Ranks:
    """One rank, whose process is this one."""

    def current(self) -> list[RankRecord]:
        return [
            RankRecord(
                rank=3, world_size=4, local_rank=0, host="a", pid=os.getpid(), device="cpu", started_ns=1, versions={}
            )
        ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """What the kernel tells, as the test has it; the sockets are this process's."""
    connections_now: list[Connection] = []
    monkeypatch.setattr(tcp, "connections", lambda: iter(connections_now))
    monkeypatch.setattr(tcp, "SOCKETS_EVERY_S", 0.0)
    return connections_now


def test_a_connection_that_is_gone_keeps_counting(told: list[Connection]) -> None:
    source = TcpSource(Ranks())  # type: ignore[arg-type]
    with socket.socket() as first, socket.socket() as second:
        inodes = [os.fstat(one.fileno()).st_ino for one in (first, second)]
        told[:] = [Connection(inodes[0], 100, 2_000_000, 1), Connection(inodes[1], 10, 500_000, 0)]
        assert source.sample().values == {"rank 3": {"tcp_sent_bytes": 110, "tcp_busy_s": 2.5, "tcp_retransmits": 1}}
        told[:] = [Connection(inodes[1], 30, 600_000, 0), Connection(7, 10**9, 10**9, 9)]
        assert source.sample().values["rank 3"] == {"tcp_sent_bytes": 130, "tcp_busy_s": 2.6, "tcp_retransmits": 1}


def test_every_name_is_known() -> None:
    assert {"tcp_sent_bytes", "tcp_busy_s", "tcp_retransmits"} <= COUNTERS.keys()


def test_connections_of_a_machine_with_itself_do_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        inode = os.fstat(client.fileno()).st_ino
        assert inode not in {connection.inode for connection in connections()}


def test_the_kernels_own_figures_are_read(tmp_path: Path) -> None:
    """Two addresses of a network namespace of its own stand for two machines."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    commands = "ip link set lo up; ip addr add 10.99.0.1/32 dev lo; ip addr add 10.99.0.2/32 dev lo"
    (tmp_path / "send.py").write_text(SENDER)
    script = f"{commands}; exec {sys.executable} {tmp_path / 'send.py'}"
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr or "ip:" in done.stderr:
        pytest.skip(f"no network namespace: {done.stderr}")
    assert done.returncode == 0, done.stderr
    sent, *lines = done.stdout.splitlines()
    rows = [list(map(int, line.split())) for line in lines]
    acked_bytes, busy_us, retransmits = max(row[1:] for row in rows)
    assert acked_bytes == pytest.approx(int(sent), abs=2)
    assert busy_us > 200_000
    assert retransmits < 10, "at most probes of the closed window"
