"""What ran on the GPU: kernels, copies and collectives, from Kineto's device activities."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any

import numpy as np

from shardprof.engine import ABSENT, NOTHING, Int64s, Intervals, merge
from shardprof.trace.activities import Activities, Collective
from shardprof.trace.classes import COMM_KINDS, comm_kind, wire_factor
from shardprof.trace.events import Events, Mask
from shardprof.trace.groups import GroupTable

DEVICE_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCH_CATEGORIES = ("cuda_runtime", "cuda_driver")

# Kernels that communicate, by their names: NCCL and RCCL of all versions, and PyTorch's and vLLM's own all-reduce.
_COMM_KERNEL = re.compile(r"nccl|rccl|cross_device_reduce", re.IGNORECASE)

_DTYPE_BYTES = {
    "double": 8, "long": 8, "int64": 8, "uint64": 8, "complexfloat": 8,
    "float": 4, "int": 4, "uint32": 4,
    "half": 2, "bfloat16": 2, "short": 2, "uint16": 2,
    "byte": 1, "char": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip


def gpu_activities(events: Events, groups: GroupTable, data_loading: Intervals) -> Activities:
    """The activities of a trace that has device events."""
    kernels = events.in_categories("kernel")
    metadata = _collective_metadata(events)
    comm_rows = _comm_rows(events, kernels, metadata)
    is_comm = np.zeros(len(events), dtype=np.bool_)
    is_comm[comm_rows] = True
    device_rows = np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES))
    launches = _launches(events, device_rows)
    launched_ns = np.where(launches >= 0, events.begin_ns[launches], ABSENT)
    # What was launched before the trace began was launched in none of its steps. A trace without any launches (it was
    # recorded so) has to count by when things ran.
    before_trace_ns = int(events.begin_ns.min()) - 1 if (launches >= 0).any() else None
    launch_of_row = dict(zip(device_rows.tolist(), launches.tolist(), strict=True))
    metadata = _metadata_of_launch(events, {row: launch_of_row[row] for row in comm_rows}) | metadata
    kinds = {row: _kind(events, row, metadata) for row in comm_rows}
    return Activities(
        device="cuda",
        compute=merge(events.intervals(kernels & ~is_comm)),
        comm=_comm_sets(events, kinds),
        memcpy=merge(events.intervals(events.in_categories("gpu_memcpy"))),
        memset=merge(events.intervals(events.in_categories("gpu_memset"))),
        data_loading=data_loading,
        late_launches=_late_launches(events, device_rows, launched_ns),
        device_events=len(device_rows),
        unlaunched_events=int((launches < 0).sum()),
        collectives=tuple(
            _collective(
                events,
                row,
                _launched_ns(events, row, launch_of_row[row], before_trace_ns),
                kind,
                metadata.get(row, {}),
                groups,
            )
            for row, kind in kinds.items()
        ),
    )


def _collective_metadata(events: Events) -> dict[int, dict[str, Any]]:
    """By kernel row: NCCL's metadata on the kernel itself, else on the CPU event that shares its External id."""
    named = {row: arguments for row, arguments in events.details.items() if "Collective name" in arguments}
    by_external_id: dict[int, dict[str, Any]] = {}
    for row in events.details:
        external_id = int(events.external_id[row])
        if external_id != ABSENT and row not in named:
            by_external_id.setdefault(external_id, {"Collective name": events.name_of(row)})
    for row, arguments in named.items():
        by_external_id[int(events.external_id[row])] = arguments
    kernels = np.flatnonzero(events.in_categories("kernel") & (events.external_id != ABSENT))
    found = {int(row): by_external_id.get(int(events.external_id[row])) for row in kernels} if by_external_id else {}
    joined = {row: arguments for row, arguments in found.items() if arguments is not None}
    return joined | {row: arguments for row, arguments in named.items() if _is_kernel(events, row)}


def _is_kernel(events: Events, row: int) -> bool:
    return events.categories[int(events.category[row])] == "kernel"


def _comm_rows(events: Events, kernels: Mask, metadata: dict[int, dict[str, Any]]) -> list[int]:
    by_name = np.flatnonzero(kernels & events.named(_COMM_KERNEL.search)).tolist()
    own_metadata = [row for row in events.details if row in metadata and _is_kernel(events, row)]
    return sorted(set(by_name) | set(own_metadata))


def _kind(events: Events, row: int, metadata: dict[int, dict[str, Any]]) -> str:
    told = comm_kind(str(metadata.get(row, {}).get("Collective name", "")))
    return told if told != "other_comm" else comm_kind(events.name_of(row))


def _comm_sets(events: Events, kinds: dict[int, str]) -> dict[str, Intervals]:
    rows_of = {kind: [row for row, its_kind in kinds.items() if its_kind == kind] for kind in COMM_KINDS}
    return {kind: merge(events.intervals(np.array(rows))) for kind, rows in rows_of.items() if rows}


def _launches(events: Events, device_rows: Int64s) -> Int64s:
    """The row of the CPU call that launched each device row; -1 where the trace does not hold it."""
    calls = np.flatnonzero(events.in_categories(*LAUNCH_CATEGORIES) & (events.correlation != ABSENT))
    launches = np.full(len(device_rows), -1, dtype=np.int64)
    if not len(calls):
        return launches
    calls = calls[np.argsort(events.correlation[calls], kind="stable")]
    keys = events.correlation[calls]
    position = np.minimum(np.searchsorted(keys, events.correlation[device_rows]), len(keys) - 1)
    found = keys[position] == events.correlation[device_rows]
    launches[found] = calls[position[found]]
    return launches


def _metadata_of_launch(events: Events, launch_of_row: dict[int, int]) -> dict[int, dict[str, Any]]:
    """By kernel row: what the communication event tells on whose thread and in whose time the kernel was launched.

    Old traces link kernels to it in no other way, and ncclKernel_SendRecv may be an all-to-all.
    """
    ranges = sorted((int(events.thread[row]), int(events.begin_ns[row]), row) for row in events.details)
    found: dict[int, dict[str, Any]] = {}
    for row, launch in launch_of_row.items():
        thread, launched_ns = int(events.thread[launch]), int(events.begin_ns[launch])
        position = bisect_right(ranges, (thread, launched_ns, len(events))) - 1
        if launch < 0 or position < 0:
            continue
        its_thread, _, around = ranges[position]
        if its_thread == thread and launched_ns < events.end_ns[around]:
            found[row] = {"Collective name": events.name_of(around)} | events.details[around]
    return found


def _late_launches(events: Events, device_rows: Int64s, launched_ns: Int64s) -> Intervals:
    """Idleness whose next activity was launched after it began. What precedes the first activity counts from the
    trace's first event on."""
    busy = merge(events.intervals(device_rows))
    if not len(busy):
        return NOTHING
    trace_begin_ns = min(int(events.begin_ns.min()), int(busy[0, 0]))
    gap_begin = np.concatenate(([trace_begin_ns], busy[:-1, 1]))
    gap_end = busy[:, 0]
    order = np.argsort(events.begin_ns[device_rows], kind="stable")
    next_activity = order[np.searchsorted(events.begin_ns[device_rows][order], gap_end)]
    late = launched_ns[next_activity] > gap_begin
    return merge(np.stack((gap_begin[late], gap_end[late]), axis=1))


def _launched_ns(events: Events, row: int, launch: int, before_trace_ns: int | None) -> int:
    if launch >= 0:
        return int(events.begin_ns[launch])
    return int(events.begin_ns[row]) if before_trace_ns is None else before_trace_ns


def _collective(
    events: Events, row: int, launched_ns: int, kind: str, metadata: dict[str, Any], groups: GroupTable
) -> Collective:
    group = groups.of_metadata(metadata)
    payload = _payload_bytes(kind, metadata)
    size = group.size if group else None
    return Collective(
        kind=kind,
        launched_ns=launched_ns,
        begin_ns=int(events.begin_ns[row]),
        end_ns=int(events.end_ns[row]),
        payload_bytes=payload,
        wire_bytes=None if payload is None or not size else round(payload * wire_factor(kind, size)),
        group=group,
    )


def _payload_bytes(kind: str, metadata: dict[str, Any]) -> int | None:
    elements = metadata.get("Out msg nelems" if kind == "all_gather" else "In msg nelems")
    element_bytes = _DTYPE_BYTES.get(str(metadata.get("dtype", "")).lower())
    if not isinstance(elements, int) or element_bytes is None:
        return None
    return elements * element_bytes
