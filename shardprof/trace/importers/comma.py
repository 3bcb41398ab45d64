"""What CoMMA writes, Google's profiler plugin for NCCL: JSON, an object an operation, with or without a list around.

Its times are the host's: `enqueued_ns` is when NCCL took the operation up. Begin and end are those of its transfers
over the network, which CoMMA sees; of one that stays inside a node nothing but the enqueueing is known. Microseconds
count from 1970, in older versions from the start of the plugin. How many ranks a communicator has is not written, so
neither is the payload of collectives whose size is a rank's part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import field

from shardprof.trace.importers.json_records import Hash, Microseconds, Number, Rank, Size, head_of, records_of
from shardprof.trace.nccl.operations import Communicator, Operation, Operations, as_columns, payload_bytes
from shardprof.trace.unpacked import text_blocks

_BYTE = "ncclUint8"
_NCCL_NAMES = {
    "all_reduce": "AllReduce", "all_gather": "AllGather", "reduce_scatter": "ReduceScatter",
    "broadcast": "Broadcast", "reduce": "Reduce", "send": "Send", "recv": "Recv",
}  # fmt: skip
_NO_NAME = "unknown"


class _Arguments(msgspec.Struct):
    size: Size


class _Record(msgspec.Struct, kw_only=True):
    cat: Literal["COLL", "P2P"]
    name: str
    comm_hash: Hash
    rank: Rank
    ts: Microseconds
    dur: Microseconds
    args: _Arguments
    seq_num: Number | None = None
    peer: Rank | None = None
    algo: str = _NO_NAME
    proto: str = _NO_NAME
    channels: Rank | None = field(name="n_max_channel", default=None)
    child_dur: Microseconds | None = None
    reclaimed: bool = False


def sniff(path: Path) -> bool:
    """Whether the file holds CoMMA's records, by what it begins with."""
    return any(True for _ in records_of(_Record, [head_of(path)]))


def read(path: Path) -> Operations:
    """What the file tells, in the order of the file; damaged records are left out. Raises OSError, and
    UnreadableTraceError where the text cannot be unpacked."""
    communicators: dict[tuple[str, int], int] = {}
    operations = []
    for record in records_of(_Record, text_blocks(path)):
        communicator = communicators.setdefault((record.comm_hash, record.rank), len(communicators))
        operations.append(_operation(record, communicator))
    ends = [Communicator(hash=int(name, 16) or None, rank=rank, ranks=None) for name, rank in communicators]
    return as_columns(operations, ends)


def _operation(record: _Record, communicator: int) -> Operation:
    function = _NCCL_NAMES.get(record.name)
    end_us = record.ts + record.dur
    ran_us = None if record.reclaimed else record.child_dur  # reclaimed is one whose end was never seen
    return Operation(
        communicator=communicator,
        function=function or record.name,
        sequence=record.seq_num,
        algorithm="" if record.algo == _NO_NAME else record.algo.upper(),
        protocol="" if record.proto == _NO_NAME else record.proto,
        channels=record.channels,
        peer=record.peer,
        enqueued_ns=record.ts * 1000,
        begin_ns=None if ran_us is None else max(record.ts, end_us - ran_us) * 1000,
        end_ns=None if ran_us is None else end_us * 1000,
        payload_bytes=None if function is None else payload_bytes(function, record.args.size, _BYTE, None),
    )
