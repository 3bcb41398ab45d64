"""Torch's flight recorder as operations: what a rank remembers of its communications, by process group.

Times are the host's: when torch was called, and when its watchdog saw that the operation had begun and that it was
done, which is always late. Where torch measured how long it ran (TORCH_NCCL_ENABLE_TIMING=1), it begins that long
before its end. `sequence` is torch's: it counts a group's collectives of all functions, and apart from them its sends
and receives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shardprof.errors import UnreadableTraceError
from shardprof.trace.classes import comm_kind
from shardprof.trace.flight_recorder import plain_dump
from shardprof.trace.gpu_collectives import DTYPE_BYTES
from shardprof.trace.groups import rank_list
from shardprof.trace.importers.json_records import Number, head_of, in_form
from shardprof.trace.nccl.operations import Communicator, Operation, Operations, as_columns
from shardprof.trace.unpacked import text_blocks

_Dimensions = Annotated[list[Number], Meta(max_length=64)]
_Sizes = list[_Dimensions]

_MOST_DUMP_BYTES = 64 << 20
_MOST_PAYLOAD_BYTES = 1 << 50
_MOST_PEER = 1 << 20
_TO_PEER = re.compile(r"(send|recv)\s*\d+\s*(?:->|<-)\s*(\d{1,9})", re.ASCII)
_OF_ONE_PART = ("gather", "scatter")  # but for the root, a rank knows of nothing but its own part
_MEMBERS = {b"\x80": (b"pg_config",), b"{": (b'"collective_seq_id"', b'"pg_status"')}
"""By what a file begins with: names in what torch puts first. A Kineto trace has a pg_config, too."""


class _Entry(msgspec.Struct, kw_only=True):
    process_group: tuple[str, str]
    profiling_name: str
    collective_seq_id: Number
    time_created_ns: Number
    p2p_seq_id: Number = 0
    is_p2p: bool = False
    input_sizes: _Sizes = []
    input_dtypes: list[str] = []
    output_sizes: _Sizes = []
    output_dtypes: list[str] = []
    time_discovered_started_ns: Number | None = None
    time_discovered_completed_ns: Number | None = None
    duration_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None


def sniff(path: Path) -> bool:
    """Whether the file looks like a dump, as JSON or as a pickle, by what it begins with."""
    head = head_of(path)
    return any(member in head for member in _MEMBERS.get(head[:1], ()))


def read(path: Path) -> Operations:
    """The operations of a rank's dump, the oldest first; damaged entries are left out. Raises OSError, and
    UnreadableTraceError for what is no dump or a pickle of more than plain data."""
    dump = plain_dump(_text(path))
    entries = dump["entries"] if isinstance(dump["entries"], list) else []
    communicators: dict[tuple[str, str], int] = {}
    operations = []
    for value in entries:
        if entry := in_form(_Entry, value):
            communicator = communicators.setdefault(entry.process_group, len(communicators))
            operations.append(_operation(entry, communicator))
    sizes = _group_sizes(dump.get("pg_config"))
    return as_columns(operations, [_communicator(name, what_for, sizes) for name, what_for in communicators])


def _text(path: Path) -> bytes:
    text = bytearray()
    for block in text_blocks(path):
        text += block
        if len(text) > _MOST_DUMP_BYTES:
            raise UnreadableTraceError("it is longer than any flight recorder's dump", "look where it comes from")
    return bytes(text)


def _group_sizes(configured: Any) -> dict[str, int]:
    groups = configured if isinstance(configured, dict) else {}
    ranks = {name: rank_list(group.get("ranks")) for name, group in groups.items() if isinstance(group, dict)}
    return {name: len(members) for name, members in ranks.items() if members}


def _communicator(name: str, description: str, sizes: Mapping[str, int]) -> Communicator:
    return Communicator(hash=None, rank=None, ranks=sizes.get(name), group=name, description=description)


def _operation(entry: _Entry, communicator: int) -> Operation:
    name = entry.profiling_name.split(":")[-1]
    to_peer = _TO_PEER.fullmatch(name)
    function = to_peer[1] if to_peer else name
    peer = int(to_peer[2]) if to_peer else None
    begin_ns, end_ns = _times(entry)
    return Operation(
        communicator=communicator,
        function=function,
        sequence=entry.p2p_seq_id if entry.is_p2p else entry.collective_seq_id,
        peer=peer if peer is not None and peer < _MOST_PEER else None,
        called_ns=entry.time_created_ns,
        begin_ns=begin_ns,
        end_ns=end_ns,
        payload_bytes=_payload_bytes(entry, function),
    )


def _times(entry: _Entry) -> tuple[int | None, int | None]:
    """When the operation began and ended. JSON has 0 for what did not happen, the pickle None."""
    begin_ns, end_ns = entry.time_discovered_started_ns or None, entry.time_discovered_completed_ns or None
    if end_ns is not None and entry.duration_ms:
        begin_ns = max(0, end_ns - round(entry.duration_ms * 1e6))
    return begin_ns, end_ns


def _payload_bytes(entry: _Entry, function: str) -> int | None:
    if function in _OF_ONE_PART:
        return None
    given = _tensor_bytes(entry.input_sizes, entry.input_dtypes)
    got = _tensor_bytes(entry.output_sizes, entry.output_dtypes)
    return got if comm_kind(function) == "all_gather" or given is None else given


def _tensor_bytes(sizes: Sequence[Sequence[int]], dtypes: Sequence[str]) -> int | None:
    """All tensors together; None where there are none, or one's element type is not known."""
    elements = [DTYPE_BYTES.get(dtype.lower()) for dtype in dtypes]
    if not sizes or len(sizes) != len(elements) or None in elements:
        return None
    told = sum(math.prod(size) * (element or 0) for size, element in zip(sizes, elements, strict=True))
    return told if told <= _MOST_PAYLOAD_BYTES else None
