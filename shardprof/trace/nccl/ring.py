"""The files of NCCL's profiler plugin, part by part: what lies where is native/include/shardprof/format.h's to say.

While a process runs there is one file, `nccl.PID.ring`. Its recorder takes the records out of the ring as they come
and keeps them in `nccl.PID.records.gz`; when the process has ended it keeps the rest of the file, without the ring, as
`nccl.PID.state.gz`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardprof.engine import nccl_format

Records = npt.NDArray[Any]

FORMAT = nccl_format()
RING_BYTES = FORMAT["file_bytes"]
STATE_BYTES = FORMAT["ring_offset"]
RECORD_BYTES = FORMAT["record_bytes"]
COLLECTIVE, POINT_TO_POINT, CALL, PROXY, COMMUNICATOR_INIT, COMMUNICATOR_FINALIZE = range(1, 7)
GRAPH_CAPTURED, COPY_ENGINE, INCOMPLETE, SENDS, FOREIGN = (1 << bit for bit in range(5))
_LIVE, _HELD = 2, 3
_THERE = 2
_NEVER = 1 << 62


def _type(parts: list[tuple[str, str, int]], size_bytes: int) -> np.dtype[Any]:
    names, types, offsets = (list(column) for column in zip(*parts, strict=True))
    return np.dtype({"names": names, "formats": types, "offsets": offsets, "itemsize": size_bytes})


def _record_type(payload: str) -> np.dtype[Any]:
    at = FORMAT["payload_offset"]
    inside = [(name, kind, at + offset) for name, kind, offset in FORMAT[payload]]
    return _type([*FORMAT["record"], *inside], RECORD_BYTES)


HEADER = _type(FORMAT["header"], FORMAT["strings_offset"])
OPERATION = _record_type("operation")
PROXY_OPERATION = _record_type("proxy")
COMMUNICATOR = _type(FORMAT["communicator"], FORMAT["communicator_bytes"])
IN_FLIGHT = _type(FORMAT["in_flight"], FORMAT["in_flight_bytes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a file holds beside its ring: counters by name, strings and communicators by their places, and what was in
    flight as records of their own: INCOMPLETE where it is known not to be over."""

    counters: dict[str, int]
    strings: tuple[str, ...]
    communicators: dict[int, dict[str, Any]]
    in_flight: Records


def is_ready(data: bytes | memoryview) -> bool:
    """Whether these are the bytes of such a file, and of this version."""
    magic = FORMAT["magic"]
    return bool(len(data) >= STATE_BYTES and bytes(data[: len(magic)]) == magic)


def take(data: bytes | memoryview, *, writer_is_dead: bool) -> tuple[Records, int]:
    """The records in the ring that nobody has taken, and what its `tail` is once they are.

    A record that is still being written ends them, unless its writer is dead: then it is left out.
    """
    header = np.frombuffer(data, HEADER, 1)[0]
    head, tail = int(header["head"]), int(header["tail"])
    if not tail <= head < _NEVER:  # damaged
        head = tail = 0
    slots = np.frombuffer(data, OPERATION, FORMAT["ring_slots"], FORMAT["ring_offset"])
    places = np.arange(tail, min(head, tail + FORMAT["ring_slots"]), dtype=np.uint64)
    taken = places % np.uint64(FORMAT["ring_slots"])
    whole = slots["stamp"][taken] == places + np.uint64(1)  # before the records: a stamp says that its record is whole
    records = slots[taken]
    if not writer_is_dead and not whole.all():
        whole[int(np.argmin(whole)) :] = False
    new_tail = head if writer_is_dead else tail + int(whole.sum())
    return records[whole], new_tail


def set_tail(data: memoryview, tail: int) -> None:
    """Give the plugin the places of what was taken."""
    np.frombuffer(data, HEADER, 1)["tail"] = tail


def read_state(data: bytes | memoryview) -> State:
    """All of a file but its ring."""
    header = np.frombuffer(data, HEADER, 1)[0]
    texts = np.frombuffer(data, f"S{FORMAT['string_bytes']}", FORMAT["string_slots"], FORMAT["strings_offset"])
    table = np.frombuffer(data, COMMUNICATOR, FORMAT["communicator_slots"], FORMAT["communicators_offset"])
    return State(
        counters={name: int(header[name]) for name in HEADER.names or ()},
        strings=tuple(text.decode(errors="replace") for text in texts.tolist()),
        communicators={
            int(place): {name: table[place][name].item() for name in COMMUNICATOR.names or ()}
            for place in np.flatnonzero(table["state"] == _THERE)
        },
        in_flight=_in_flight(data),
    )


def _in_flight(data: bytes | memoryview) -> Records:
    """The records of what was in flight, with the times that the plugin gathers beside them."""
    count, offset = FORMAT["in_flight_slots"], FORMAT["in_flight_offset"]
    slots = np.frombuffer(data, IN_FLIGHT, count, offset)
    inner = np.dtype(
        {
            "names": ["record"], "formats": [OPERATION], "offsets": [FORMAT["record_offset"]],
            "itemsize": FORMAT["in_flight_bytes"],
        }
    )  # fmt: skip
    phases = slots["state"] >> np.uint64(16) & np.uint64(0x7F)
    runs = (phases == _LIVE) | (phases == _HELD)
    records: Records = np.frombuffer(data, inner, count, offset)["record"][runs].copy()
    of_operation = records["kind"] != PROXY
    for name, gathered in (
        ("enqueue_end_ns", "enqueue_end_ns"), ("host_begin_ns", "host_begin_ns"), ("host_end_ns", "host_end_ns"),
        ("gpu_begin_ns", "gpu_first_begin_ns"), ("gpu_end_ns", "gpu_last_end_ns"),
    ):  # fmt: skip
        records[name][of_operation] = slots[gathered][runs][of_operation]
    begun = records["gpu_begin_ns"] + records["host_begin_ns"] > 0
    records["flags"][(phases[runs] == _LIVE) | ~begun] |= INCOMPLETE  # a held one may be over, unless it never began
    ended = (slots["state"] >> np.uint64(24) & np.uint64(0xFF)).astype(np.uint8)
    records["channels_ended"][of_operation] = ended[runs][of_operation]
    return records
