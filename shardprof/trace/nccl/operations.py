"""NCCL's own account of one process: its communicators and what ran on them. Whoever told it, it becomes this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS, comm_kind, wire_factor
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.events import Mask

_BYTES_OF_TYPE = {
    "int8": 1, "uint8": 1, "float8e4m3": 1, "float8e5m2": 1, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
_LARGEST = 2**62
_COUNTED_A_RANK = ("AllGather", "ReduceScatter", "AlltoAll", "AllToAll", "Gather", "Scatter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Communicator:
    """One rank's end of an NCCL communicator. `hash` is the same on all its ranks, `rank` is the one inside it. `group`
    is the name of torch's process group, `description` what that is for, `transport` over what its channels go
    ("P2P/IPC and NET/IB/GDRDMA"). None is what nobody told."""

    hash: int | None
    rank: int | None
    ranks: int | None
    nodes: int | None = None
    name: str = ""
    group: str | None = None
    description: str | None = None
    transport: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A collective or point-to-point of one communicator. `count` is of elements, in the sense of the NCCL `function`;
    `sequence` counts by function and communicator, in torch's flight recorder by group. `begin_ns` and `end_ns` are
    when it ran on the GPU, by the host's clock. None is what nobody told."""

    communicator: int
    function: str
    count: int | None = None
    datatype: str = ""
    sequence: int | None = None
    algorithm: str = ""
    protocol: str = ""
    channels: int | None = None
    peer: int | None = None
    called_ns: int | None = None
    enqueued_ns: int | None = None
    begin_ns: int | None = None
    end_ns: int | None = None
    payload_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """A row an Operation, whose None is UNKNOWN: int64 columns of one length.

    `kind` is an index into COMM_KINDS, `communicator` one into `communicators`, `function`, `algorithm` and `protocol`
    ones into `words`. `payload_bytes` follows nccl-tests (docs/definitions.md), `wire_bytes` is what the rank sends.
    """

    kind: Int64s
    communicator: Int64s
    function: Int64s
    algorithm: Int64s
    protocol: Int64s
    channels: Int64s
    sequence: Int64s
    peer: Int64s
    payload_bytes: Int64s
    wire_bytes: Int64s
    called_ns: Int64s
    enqueued_ns: Int64s
    begin_ns: Int64s
    end_ns: Int64s
    words: tuple[str, ...]
    communicators: tuple[Communicator, ...]

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, rows: Mask | Int64s) -> Operations:
        """Some of the rows."""
        return replace(self, **{column: getattr(self, column)[rows] for column in COLUMNS})


COLUMNS = tuple(spec.name for spec in fields(Operations) if spec.name not in ("words", "communicators"))


def datatype_bytes(datatype: str) -> int | None:
    """Of an element, by NCCL's name ("ncclBfloat16", "ncclInt8"); None for an unknown one."""
    return _BYTES_OF_TYPE.get(datatype.lower().removeprefix("nccl"))


def payload_bytes(function: str, count: int, datatype: str, ranks: int | None) -> int | None:
    """The payload of a call, as nccl-tests counts it: of functions whose count is a rank's part, all ranks' parts
    together. None where the element type or the number of ranks is not known."""
    element = datatype_bytes(datatype)
    if element is None:
        return None
    if function in _COUNTED_A_RANK:
        return None if ranks is None else count * element * ranks
    return count * element


def kind_and_wire(function: str, payload: int | None, ranks: int | None) -> tuple[int, int | None]:
    """The index in COMM_KINDS of what an NCCL function does, and what a rank sends for a payload; None where that is
    not known."""
    kind = comm_kind(function)
    sharing = 2 if kind == "p2p" else ranks
    wire = None if payload is None or not sharing else round(payload * wire_factor(kind, sharing))
    return COMM_KINDS.index(kind), wire


def alike(columns: Sequence[Int64s]) -> tuple[Int64s, Int64s]:
    """Which rows are the same in all of the columns: the first row of each kind of row, and each row's kind. A training
    of days has millions of rows and few kinds, so that the columns become one number a row, which is sorted once."""
    ids = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, values = np.unique(column, return_inverse=True)
        different = int(values.max(initial=0)) + 1
        if int(ids.max(initial=0)) * different >= _LARGEST:
            _, ids = np.unique(ids, return_inverse=True)
        ids = ids * different + values.reshape(-1)
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def as_columns(operations: Sequence[Operation], communicators: Sequence[Communicator]) -> Operations:
    """The columns of some Operations. Where `payload_bytes` is not told it follows from count and element type."""
    words: dict[str, int] = {"": 0}
    rows = [_row(operation, communicators[operation.communicator], words) for operation in operations]
    table = np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS))
    columns = {name: table[:, i].copy() for i, name in enumerate(COLUMNS)}
    return Operations(**columns, words=tuple(words), communicators=tuple(communicators))


def _row(operation: Operation, communicator: Communicator, words: dict[str, int]) -> list[int]:
    payload = operation.payload_bytes
    if payload is None and operation.count is not None:
        payload = payload_bytes(operation.function, operation.count, operation.datatype, communicator.ranks)
    kind, wire = kind_and_wire(operation.function, payload, communicator.ranks)
    told = {
        "kind": kind,
        "payload_bytes": payload,
        "wire_bytes": wire,
        **{name: words.setdefault(getattr(operation, name), len(words)) for name in _WORDS},
    }
    return [held(told[name] if name in told else getattr(operation, name)) for name in COLUMNS]


_WORDS = ("function", "algorithm", "protocol")


def held(value: int | None) -> int:
    """As a column holds it: what is not told, or is more than any that is true, is UNKNOWN."""
    return UNKNOWN if value is None or not -_LARGEST <= value <= _LARGEST else value
