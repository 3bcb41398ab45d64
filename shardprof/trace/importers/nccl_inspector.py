"""NCCL Inspector's files: JSON, an object an operation, all communicators of a process in one file.

Inspector is a profiler plugin that comes with NCCL since 2.28. It tells how long an operation ran, by the GPU's timer
where it could; when it ran is told only with NCCL_INSPECTOR_DUMP_VERBOSE=1. Then `end_ns` is when the host saw the last
channel stop, else when the record was written, which can be much later. Such rows have no `enqueued_ns`: of their times
only the difference holds. Algorithm and protocol are not written.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import field

from shardprof.trace.importers.json_records import Hash, Microseconds, Number, Rank, Ranks, Size, head_of, records_of
from shardprof.trace.nccl.operations import Communicator, Operation, Operations, as_columns, payload_bytes
from shardprof.trace.unpacked import text_blocks

_BYTE = "ncclUint8"
_NO_NAME = "unknown"
_NCCL_NAMES = {"All2All": "AlltoAll"}
_SIZE_OF_WHAT = "AllGatherV"  # each rank gives another number of bytes


class _Header(msgspec.Struct, frozen=True):
    id: Hash
    rank: Rank
    n_ranks: Ranks
    nnodes: Rank
    comm_name: str = _NO_NAME  # since 2.30


class _Metadata(msgspec.Struct):
    inspector_output_format_version: str
    dump_timestamp_us: Microseconds
    hostname: str = ""
    pid: Number = 0


class _Channel(msgspec.Struct):
    kernel_stop_ts: Microseconds


class _Trace(msgspec.Struct):
    kernel_events: list[_Channel]
    coll_start_ts: Microseconds = 0
    p2p_start_ts: Microseconds = 0


class _Collective(msgspec.Struct, kw_only=True):
    function: str = field(name="coll")
    sequence: Number = field(name="coll_sn")
    size_bytes: Size = field(name="coll_msg_size_bytes")
    duration_us: Microseconds = field(name="coll_exec_time_us")
    trace: _Trace | None = field(name="event_trace_ts", default=None)
    peer: None = None


class _PointToPoint(msgspec.Struct, kw_only=True):
    function: str = field(name="p2p")
    peer: Rank = field(name="p2p_peer")
    size_bytes: Size = field(name="p2p_msg_size_bytes")
    duration_us: Microseconds = field(name="p2p_exec_time_us")
    trace: _Trace | None = field(name="event_trace_ts", default=None)
    sequence: None = None  # p2p_sn counts sends and receives together, whoever they are with


class _Record(msgspec.Struct):
    header: _Header
    metadata: _Metadata
    coll_perf: _Collective | None = None
    p2p_perf: _PointToPoint | None = None

    @property
    def process(self) -> tuple[str, int]:
        return self.metadata.hostname, self.metadata.pid

    @property
    def ran(self) -> _Collective | _PointToPoint | None:
        return self.coll_perf or self.p2p_perf


def sniff(path: Path) -> bool:
    """Whether the file holds Inspector's records, by what it begins with."""
    return any(record.ran for record in records_of(_Record, [head_of(path)]))


def read(path: Path) -> Operations:
    """What the file tells, in the order of the file; damaged records are left out. Raises OSError, and
    UnreadableTraceError where the text cannot be unpacked."""
    communicators: dict[tuple[_Header, tuple[str, int]], int] = {}
    operations = []
    for record in records_of(_Record, text_blocks(path)):
        if record.ran:
            communicator = communicators.setdefault((record.header, record.process), len(communicators))
            operations.append(_operation(record, record.ran, communicator))
    return as_columns(operations, [_communicator(header) for header, _ in communicators])


def _communicator(header: _Header) -> Communicator:
    return Communicator(
        hash=int(header.id, 16),
        rank=header.rank,
        ranks=header.n_ranks,
        nodes=header.nnodes,
        name="" if header.comm_name == _NO_NAME else header.comm_name,
    )


def _operation(record: _Record, ran: _Collective | _PointToPoint, communicator: int) -> Operation:
    function = _NCCL_NAMES.get(ran.function, ran.function)
    ranks, trace = record.header.n_ranks, ran.trace
    enqueued_us = trace and (trace.coll_start_ts or trace.p2p_start_ts)
    stopped_us = trace and max((channel.kernel_stop_ts for channel in trace.kernel_events), default=0)
    end_us = stopped_us or record.metadata.dump_timestamp_us
    is_timed = 0 < ran.duration_us <= end_us
    return Operation(
        communicator=communicator,
        function=function,
        sequence=ran.sequence,
        channels=len(trace.kernel_events) or None if trace else None,
        peer=ran.peer,
        enqueued_ns=enqueued_us * 1000 if enqueued_us and stopped_us else None,
        begin_ns=(end_us - ran.duration_us) * 1000 if is_timed else None,
        end_ns=end_us * 1000,
        payload_bytes=None if function == _SIZE_OF_WHAT else payload_bytes(function, ran.size_bytes, _BYTE, ranks),
    )
