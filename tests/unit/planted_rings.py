"""Files as the NCCL plugin leaves them, with what a test wants in them; times are nanoseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardprof.trace.nccl import ring

GPU_CLOCK_BEHIND_NS = 10**15
"""What the GPU's timer lacks to the host's clock."""
SEEN_LATER_NS = 700
"""How much later than it was NCCL sees the end of a kernel, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A call; without `end_ns` it never ended."""

    function: str
    count: int
    sequence: int
    begin_ns: int
    end_ns: int | None
    communicator: int = 0
    datatype: str = "ncclFloat32"
    algorithm: str = "RING"
    protocol: str = "SIMPLE"
    channels: int = 4
    kind: int = ring.COLLECTIVE
    flags: int = 0


def plant(folder: Path, pid: int, communicators: list[tuple[int, int, int]], calls: list[Planted]) -> Path:
    """Write the file of a process; `communicators` are (hash, rank, ranks), `calls` come in the order of the ring."""
    data = bytearray(ring.RING_BYTES)
    data[: len(ring.FORMAT["magic"])] = ring.FORMAT["magic"]
    header = np.frombuffer(data, ring.HEADER, 1)
    ended = [call for call in calls if call.end_ns is not None]
    header["pid"], header["head"] = pid, len(ended)
    names = ["", *sorted({word for c in calls for word in (c.function, c.datatype, c.algorithm, c.protocol)})]
    texts = np.frombuffer(data, f"S{ring.FORMAT['string_bytes']}", len(names), ring.FORMAT["strings_offset"])
    texts[:] = [name.encode() for name in names]
    places = range(5, 5 + len(communicators))
    table = np.frombuffer(data, ring.COMMUNICATOR, 1024, ring.FORMAT["communicators_offset"])
    for place, (identity, rank, ranks) in zip(places, communicators, strict=True):
        for name, value in {"state": 2, "rank": rank, "ranks": ranks, "nodes": 1, "hash": identity}.items():
            table[name][place] = value
    slots = np.frombuffer(data, ring.OPERATION, len(ended), ring.FORMAT["ring_offset"])
    for i, call in enumerate(ended):
        for name, value in {**_record(call, names, places[call.communicator]), "stamp": i + 1}.items():
            slots[name][i] = value
    for i, call in enumerate(call for call in calls if call.end_ns is None):
        begin = ring.FORMAT["in_flight_offset"] + i * ring.FORMAT["in_flight_bytes"]
        np.frombuffer(data, ring.IN_FLIGHT, 1, begin)["state"] = 1 << 32 | 2 << 16 | call.channels
        np.frombuffer(data, ring.IN_FLIGHT, 1, begin)["gpu_first_begin_ns"] = call.begin_ns - GPU_CLOCK_BEHIND_NS
        record = np.frombuffer(data, ring.OPERATION, 1, begin + ring.FORMAT["record_offset"])
        for name, value in _record(call, names, places[call.communicator]).items():
            record[name] = value
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"nccl.{pid}.ring"
    file.write_bytes(data)
    return file


def _record(call: Planted, names: list[str], place: int) -> dict[str, int]:
    told = {
        "kind": call.kind, "flags": call.flags, "communicator": place, "function": names.index(call.function),
        "datatype": names.index(call.datatype), "algorithm": names.index(call.algorithm),
        "protocol": names.index(call.protocol), "channels": call.channels, "warps": 16, "sequence": call.sequence,
        "count": call.count,
        "call_begin_ns": call.begin_ns - 6000, "enqueue_begin_ns": call.begin_ns - 5000,
        "enqueue_end_ns": call.begin_ns - 4000,
        "host_begin_ns": call.begin_ns + 900, "gpu_begin_ns": call.begin_ns - GPU_CLOCK_BEHIND_NS,
    }  # fmt: skip
    if call.end_ns is not None:
        late_ns = SEEN_LATER_NS + call.sequence % 5 * 100
        told |= {"gpu_end_ns": call.end_ns - GPU_CLOCK_BEHIND_NS, "host_end_ns": call.end_ns + late_ns}
    return told
