"""What the kernel counts for each rank's TCP connections to other machines: what was sent and how long that took.

Bytes by the time in which something was on its way tell how fast a link is, however seldom it is used: a total that no
sampling misses. NCCL over sockets and gloo use TCP; InfiniBand has counters of its own (host.py).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.counters import Sample, Values
from shardprof.trace.schema import Device, RankRecord

SOCKETS_EVERY_S = 2.0

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_ESTABLISHED = 1 << 1
_INET_DIAG_INFO = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48s")
_MESSAGE = struct.Struct("=BBBBHH16s16sI8sIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_RETRANSMITS = struct.Struct("=I"), 100
_ACKED_BYTES = struct.Struct("=Q"), 120
_BUSY_US = struct.Struct("=Q"), 168
_INFO_BYTES = 176


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection to another machine, by the inode of its socket: totals since it was made."""

    inode: int
    acked_bytes: int
    busy_us: int
    retransmits: int


def open_source(ranks: NodeRanks) -> TcpSource | None:
    """Wherever Linux tells of its sockets."""
    try:
        list(connections())
    except OSError:
        return None
    return TcpSource(ranks)


class TcpSource:
    """Totals of each rank of this node, over all connections that it has had."""

    name = "tcp"
    interval_ns = 250_000_000
    devices: tuple[Device, ...] = ()

    def __init__(self, ranks: NodeRanks) -> None:
        self._node_ranks = ranks
        self._owner: dict[int, str] = {}
        self._known: dict[tuple[str, int], Connection] = {}
        self._looked_at = 0.0

    def sample(self) -> Sample:
        """Bytes that other machines have acknowledged, seconds with bytes on their way, segments sent again."""
        ranks = self._node_ranks.current()
        if ranks and time.monotonic() >= self._looked_at + SOCKETS_EVERY_S:
            self._looked_at = time.monotonic()
            self._owner = {inode: _subject(rank) for rank in ranks for inode in _sockets(rank.pid)}
        for connection in connections() if self._owner else ():
            if owner := self._owner.get(connection.inode):
                self._known[owner, connection.inode] = connection
        values: Values = {}
        for (owner, _), connection in self._known.items():
            of_rank = values.setdefault(owner, {"tcp_sent_bytes": 0, "tcp_busy_s": 0.0, "tcp_retransmits": 0})
            of_rank["tcp_sent_bytes"] += connection.acked_bytes
            of_rank["tcp_busy_s"] += connection.busy_us / 1e6
            of_rank["tcp_retransmits"] += connection.retransmits
        return Sample(values)

    def close(self) -> None:
        """Nothing is open."""


def connections() -> Iterator[Connection]:
    """The established connections to other machines in this network namespace. OSError where they are not told."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(1.0)
            extensions = 1 << (_INET_DIAG_INFO - 1)
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, 0, _ESTABLISHED, b"")
            size = _HEADER.size + len(request)
            netlink.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 1, 0) + request)
            yield from _answers(netlink)


def _answers(netlink: socket.socket) -> Iterator[Connection]:
    while True:
        data = netlink.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            if kind == _DONE:
                return
            if kind == _ERROR or size < _HEADER.size:
                raise OSError("the kernel does not tell of its sockets")
            if connection := _connection(data[offset + _HEADER.size : offset + size]):
                yield connection
            offset += (size + 3) & ~3


def _connection(message: bytes) -> Connection | None:
    """What a message tells; None for connections of this machine with itself and from kernels that tell less."""
    _, _, _, _, _, _, source, peer, _, _, _, _, _, _, inode = _MESSAGE.unpack_from(message)
    info = _attribute(message, _MESSAGE.size, _INET_DIAG_INFO)
    if source == peer or len(info) < _INFO_BYTES:
        return None

    def field(where: tuple[struct.Struct, int]) -> int:
        form, offset = where
        return int(form.unpack_from(info, offset)[0])

    return Connection(inode, field(_ACKED_BYTES), field(_BUSY_US), field(_RETRANSMITS))


def _attribute(message: bytes, offset: int, wanted: int) -> bytes:
    while offset + _ATTRIBUTE.size <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, offset)
        if size < _ATTRIBUTE.size:
            break
        if kind == wanted:
            return message[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return b""


def _sockets(pid: int) -> Iterator[int]:
    """The inodes of a process's sockets."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError, ValueError):
                target = os.readlink(link)  # noqa: PTH115 - it is no path
                if target.startswith("socket:["):
                    yield int(target[8:-1])


def _subject(rank: RankRecord) -> str:
    return f"rank {rank.rank}"
