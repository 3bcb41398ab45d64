"""What NCCL's profiler plugin recorded of one process: its operations, with their times on the host's clock.

A channel's begin and end are of the GPU's own timer. NCCL tells of an end when it sees it, which is later, but at times
only a little: the least lateness within each while ties the two clocks together.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.events import Mask
from shardprof.trace.nccl import ring
from shardprof.trace.nccl.operations import Communicator, Operations, alike, held, kind_and_wire, payload_bytes
from shardprof.trace.nccl.ring import Records, State

RING, RECORDS, STATE = "nccl.{}.ring", "nccl.{}.records.gz", "nccl.{}.state.gz"
"""The names of a process's files, by its id."""

_BLOCK_BYTES = ring.RECORD_BYTES << 15
_MOST_RECORDS = 1 << 25
_MOST_BYTES = 1 << 40
_MOST_PROXIES = 1 << 22
_WHILE_NS = 10_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecords:
    """Of one process. `in_flight` are the rows of `operations` that never ended.
    `lost` counts, by what became of them, the events that no record holds whole. `timer_residual_ns` is the median of
    what remains between the GPU's timer and the host's clock, None without GPU times."""

    operations: Operations
    in_flight: Int64s
    lost: dict[str, int]
    timer_residual_ns: int | None


def read(folder: Path, process: str) -> PluginRecords | None:
    """What a process left; None where that is nothing that can be read. A process that still runs may go on writing,
    and its recorder taking: the ring comes first, and what was kept meanwhile counts once."""
    state = _state(folder, process)
    if state is None:
        return None
    data, has_ring = state
    rest = ring.take(data, writer_is_dead=True)[0] if has_ring else np.empty(0, ring.OPERATION)
    kept: list[Records] = []
    rows, last_stamp, beyond = 0, 0, 0
    for block in _kept(folder / RECORDS.format(process)):
        fresh = block[(block["stamp"] > last_stamp) & _is_told(block)]
        last_stamp = int(block["stamp"].max(initial=last_stamp))
        if rows < _MOST_RECORDS:
            kept.append(fresh)
            rows += len(fresh)
        else:
            beyond += len(fresh)
    told = ring.read_state(data)
    kept += [rest[(rest["stamp"] > last_stamp) & _is_told(rest)], told.in_flight[_is_told(told.in_flight)]]
    return _as_operations(_with_lone_calls(np.concatenate(kept)), told, beyond)


def read_proxies(folder: Path, process: str) -> tuple[Records, State] | None:
    """What the proxy threads did for each channel of an operation, where that was asked for; None like `read`."""
    state = _state(folder, process)
    if state is None:
        return None
    data, has_ring = state
    rest = ring.take(data, writer_is_dead=True)[0] if has_ring else np.empty(0, ring.OPERATION)
    parts = [part[part["kind"] == ring.PROXY] for part in (*_kept(folder / RECORDS.format(process)), rest)]
    records = np.concatenate([part.view(ring.PROXY_OPERATION) for part in parts])[-_MOST_PROXIES:]
    return records, ring.read_state(data)


def _state(folder: Path, process: str) -> tuple[bytes, bool] | None:
    """The bytes beside the records, and whether the ring is among them."""
    with contextlib.suppress(OSError):
        data = (folder / RING.format(process)).read_bytes()
        if len(data) == ring.RING_BYTES and ring.is_ready(data):
            return data, True
    with contextlib.suppress(OSError):
        data = b"".join(_unzipped(folder / STATE.format(process), ring.STATE_BYTES))
        if ring.is_ready(data):
            return data, False
    return None


def _kept(file: Path) -> Iterator[Records]:
    """The records that were taken out of the ring; of a damaged file those before the damage."""
    rest = b""
    try:
        for block in _unzipped(file, _MOST_BYTES):
            data = rest + block
            whole = len(data) // ring.RECORD_BYTES
            yield np.frombuffer(data, ring.OPERATION, whole)
            rest = data[whole * ring.RECORD_BYTES :]
    except OSError:
        return


def _unzipped(file: Path, most_bytes: int) -> Iterator[bytes]:
    """The text of a gzip file of many members, until it ends, is damaged or is longer than that."""
    with file.open("rb") as stream:
        inflater, left = zlib.decompressobj(wbits=31), most_bytes
        pending = b""
        while left > 0 and (pending := pending or stream.read(_BLOCK_BYTES)):
            try:
                text = inflater.decompress(pending, min(left, _BLOCK_BYTES))
            except zlib.error:
                return
            left -= len(text)
            yield text
            pending = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)


def _is_told(records: Records) -> Mask:
    """Operations, and the calls that asked for them."""
    found: Mask = np.isin(records["kind"], (ring.COLLECTIVE, ring.POINT_TO_POINT, ring.CALL))
    return found


def _with_lone_calls(records: Records) -> Records:
    """The operations, and of the calls those of functions that never came as operations of their communicator: newer
    NCCL tells no more than the call of broadcasts and of symmetric kernels."""
    places = records["communicator"].astype(np.int64) << 8 | records["function"]
    is_call = records["kind"] == ring.CALL
    found: Records = records[~is_call | ~np.isin(places, places[~is_call])]
    return found


def _never_ended(records: Records) -> Mask:
    """What was in flight to the end, or when its communicator was destroyed."""
    incomplete = (records["flags"] & ring.INCOMPLETE) != 0
    found: Mask = incomplete & (records["kind"] != ring.CALL)
    found &= (records["channels"] == 0) | (records["channels_ended"] < records["channels"])
    return found


def _as_operations(records: Records, state: State, beyond: int) -> PluginRecords:
    places = sorted(state.communicators)
    communicators = [_communicator(state.communicators[place]) for place in places]
    index = np.full(1 << 16, UNKNOWN, dtype=np.int64)
    index[places] = np.arange(len(places))
    of_communicator = index[records["communicator"]]
    offset_ns, residual_ns = _host_offset_ns(records)
    begin_ns, end_ns = _ran(records, offset_ns)
    sizes = _sizes(records, of_communicator, communicators, state.strings)
    operations = Operations(
        **sizes,
        communicator=of_communicator,
        function=records["function"].astype(np.int64),
        algorithm=records["algorithm"].astype(np.int64),
        protocol=records["protocol"].astype(np.int64),
        channels=_known(records["channels"]),
        sequence=np.where(records["kind"] == ring.COLLECTIVE, records["sequence"].astype(np.int64), UNKNOWN),
        peer=records["root_or_peer"].astype(np.int64),
        called_ns=_known(records["call_begin_ns"]),
        enqueued_ns=_known(records["enqueue_begin_ns"]),
        begin_ns=begin_ns,
        end_ns=end_ns,
        words=state.strings,
        communicators=tuple(communicators),
    )
    lost = {name: state.counters[name] for name in ("dropped", "unslotted", "evicted", "stale", "untabled")}
    lost["beyond"] = beyond
    return PluginRecords(
        operations=operations,
        in_flight=np.flatnonzero(_never_ended(records)),
        lost={name: count for name, count in lost.items() if count},
        timer_residual_ns=residual_ns,
    )


def _communicator(told: dict[str, Any]) -> Communicator:
    return Communicator(
        hash=told["hash"],
        rank=told["rank"],
        ranks=told["ranks"] or None,
        nodes=told["nodes"] or None,
        name=told["name"].decode(errors="replace"),
    )


def _sizes(
    records: Records, of_communicator: Int64s, communicators: list[Communicator], strings: tuple[str, ...]
) -> dict[str, Int64s]:
    """Kind, payload and wire bytes; the same few calls come again and again."""
    said = [of_communicator, *(records[name].astype(np.int64) for name in ("function", "datatype", "count"))]
    first, which = alike(said)
    rows = []
    for place, function, datatype, count in np.stack([column[first] for column in said], axis=1).tolist():
        ranks = communicators[place].ranks if place != UNKNOWN else None
        payload = payload_bytes(strings[function], count, strings[datatype], ranks)
        kind, wire = kind_and_wire(strings[function], payload, ranks)
        rows.append((kind, held(payload), held(wire)))
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)[which]
    return {"kind": table[:, 0], "payload_bytes": table[:, 1], "wire_bytes": table[:, 2]}


def _known(values: Records) -> Int64s:
    """Numbers of which 0 says that nobody knows."""
    known: Int64s = values.astype(np.int64)
    return np.where(known == 0, UNKNOWN, known)


def _ran(records: Records, offset_ns: Int64s) -> tuple[Int64s, Int64s]:
    """When each ran: by the GPU's timer where it has told, else when NCCL saw it."""
    times = []
    for gpu, host in (("gpu_begin_ns", "host_begin_ns"), ("gpu_end_ns", "host_end_ns")):
        timed = records[gpu].astype(np.int64)
        times.append(np.where(timed != 0, timed + offset_ns, _known(records[host])))
    return times[0], times[1]


def _host_offset_ns(records: Records) -> tuple[Int64s, int | None]:
    """What to add to the GPU's timer at each record, and the median of how late NCCL saw the ends by that."""
    gpu_ns, host_ns = records["gpu_end_ns"].astype(np.int64), records["host_end_ns"].astype(np.int64)
    timed = np.flatnonzero((gpu_ns != 0) & (host_ns != 0))
    if not len(timed):
        return np.zeros(len(records), dtype=np.int64), None
    seen_ns, late_ns = gpu_ns[timed], host_ns[timed] - gpu_ns[timed]
    whiles, first = np.unique(seen_ns // _WHILE_NS, return_inverse=True)
    order = np.lexsort((late_ns, first))
    least = order[np.searchsorted(first[order], np.arange(len(whiles)))]
    base = int(late_ns[least[0]])
    at, least_ns = seen_ns[least], late_ns[least] - base
    origin = int(at[0])
    anchor_ns = np.where(gpu_ns != 0, gpu_ns, records["gpu_begin_ns"].astype(np.int64))
    offset_ns = base + np.rint(np.interp(anchor_ns - origin, at - origin, least_ns)).astype(np.int64)
    return offset_ns, int(np.median(late_ns - offset_ns[timed]))
