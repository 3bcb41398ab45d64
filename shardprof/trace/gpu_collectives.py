"""Which kernels communicate, and what the trace tells of each: kind, size and process group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shardprof.engine import ABSENT, Int64s, Intervals
from shardprof.trace.classes import COMM_KINDS, OTHER_COMM, named_kind, wire_factor
from shardprof.trace.collectives import UNKNOWN, Collectives, ProcessGroup
from shardprof.trace.device_names import kernel_kind
from shardprof.trace.events import Events
from shardprof.trace.groups import GroupTable

COLLECTIVE_NAME = "Collective name"
COLLECTIVE_ARGUMENTS = (
    COLLECTIVE_NAME, "In msg nelems", "Out msg nelems", "dtype", "Src Rank", "Dst Rank",
    "Group size", "Process Group Name", "Process Group Description", "Process Group Ranks",
)  # fmt: skip
"""What NCCL's metadata tells on an event, as far as it is used here."""

COLLECTIVE_SEQUENCE = "Seq"
"""The number of a collective among those of its group, the same on every rank; since torch of March 2026."""

DTYPE_BYTES = {
    "double": 8, "long": 8, "int64": 8, "uint64": 8, "complexfloat": 8,
    "float": 4, "int": 4, "uint32": 4,
    "half": 2, "bfloat16": 2, "short": 2, "uint16": 2,
    "byte": 1, "char": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip


def comm_rows(events: Events) -> Int64s:
    """The rows of kernels that communicate: by their own metadata or by their name."""
    kernels = np.flatnonzero(events.in_categories("kernel"))
    is_kernel_name = np.zeros(len(events.names), dtype=np.bool_)
    is_kernel_name[events.name[kernels]] = True
    communicates = is_kernel_name.copy()
    communicates[is_kernel_name] = [kernel_kind(events.names[i]) is not None for i in np.flatnonzero(is_kernel_name)]
    with_metadata = np.zeros(len(events), dtype=np.bool_)
    with_metadata[events.detail_row[_has_metadata(events)]] = True
    rows: Int64s = kernels[communicates[events.name[kernels]] | with_metadata[kernels]]
    return rows


def gpu_collectives(
    events: Events, rows: Int64s, launches: Int64s, launched_ns: Int64s, groups: GroupTable
) -> Collectives:
    """The collectives behind the kernels in `rows`; `launches` are the rows of the calls that launched them, or -1."""
    teller, detail, by_name = _tellers(events, rows, launches)
    # A training does the same over and over: what is told is read once for each different thing that is told.
    told, which = np.unique(
        np.stack((np.where(by_name, events.name[teller].astype(np.int64), UNKNOWN), detail, events.name[rows]), axis=1),
        axis=0,
        return_inverse=True,
    )
    facts = [_facts(events, name, details, kernel, groups) for name, details, kernel in told.tolist()]
    known_groups = tuple(dict.fromkeys(fact.group for fact in facts if fact.group is not None))
    index = {group: i for i, group in enumerate(known_groups)}
    columns = np.array(
        [(*fact.numbers, index[fact.group] if fact.group else UNKNOWN) for fact in facts], dtype=np.int64
    ).reshape(-1, len(_Fact.NUMBERS) + 1)[which.reshape(-1)]
    numbers = {name: columns[:, i] for i, name in enumerate(_Fact.NUMBERS)}
    return Collectives(
        **numbers,
        row=rows,
        launched_ns=launched_ns,
        begin_ns=events.begin_ns[rows],
        end_ns=events.end_ns[rows],
        sequence=_sequence(events, teller),
        group=columns[:, -1],
        groups=known_groups,
    )


def _sequence(events: Events, tellers: Int64s) -> Int64s:
    """The numbers of collectives in their groups, by the events that tell of them."""
    of_row = np.full(len(events) + 1, UNKNOWN, dtype=np.int64)  # the last is for teller -1
    of_row[events.detail_row] = np.where(events.detail_sequence >= 0, events.detail_sequence, UNKNOWN)
    return of_row[tellers]


def _tellers(events: Events, rows: Int64s, launches: Int64s) -> tuple[Int64s, Int64s, Any]:
    """For each kernel the row of the event that tells what it is, -1 if none; its details, -1 if only its name tells;
    and whether its name does. The kernel's own metadata come first, then the event with its External id, then the one
    around its launch: old traces link kernels to it in no other way, and ncclKernel_SendRecv may be an all-to-all."""
    detail_of = np.full(len(events), UNKNOWN, dtype=np.int64)
    detail_of[events.detail_row] = events.detail
    has_metadata = np.zeros(len(events) + 1, dtype=np.bool_)  # the last is for teller -1
    has_metadata[events.detail_row[_has_metadata(events)]] = True
    teller = np.where(has_metadata[rows], rows, UNKNOWN)
    teller = np.where(teller == UNKNOWN, _with_external_id_of(events, rows), teller)
    around = np.where(teller == UNKNOWN, _around_launch(events, launches), UNKNOWN)
    is_around = around != UNKNOWN
    teller = np.where(is_around, around, teller)
    by_name = (teller != UNKNOWN) & ~has_metadata[teller]
    detail = np.where(is_around | has_metadata[teller], np.append(detail_of, UNKNOWN)[teller], UNKNOWN)
    return teller, detail, by_name


def _with_external_id_of(events: Events, rows: Int64s) -> Int64s:
    """For each kernel the event with details that has its External id: the last with metadata, else the first."""
    tellers = events.detail_row.astype(np.int64)
    has_metadata = _has_metadata(events)
    ids = events.external_id[tellers]
    order = np.lexsort((np.where(has_metadata, tellers, -tellers), has_metadata, ids))
    order = order[ids[order] != ABSENT]
    keys = ids[order]
    position = np.searchsorted(keys, events.external_id[rows], side="right") - 1
    found = position >= 0
    found[found] = keys[position[found]] == events.external_id[rows][found]
    return _placed(found, tellers[order][position[found]])


def _around_launch(events: Events, launches: Int64s) -> Int64s:
    """For each launch the innermost event with details on its thread that it lies in."""
    tellers = events.detail_row.astype(np.int64)
    around = np.full(len(launches), UNKNOWN, dtype=np.int64)
    for thread in np.unique(events.thread[launches[launches >= 0]]).tolist():
        inside = tellers[events.thread[tellers] == thread]
        if not len(inside):
            continue
        inside = inside[np.lexsort((-events.end_ns[inside], events.begin_ns[inside]))]
        here = np.flatnonzero((launches >= 0) & (events.thread[launches] == thread))
        position = _innermost(events.intervals(inside), events.begin_ns[launches[here]])
        found = position >= 0
        around[here[found]] = inside[position[found]]
    return around


def _innermost(ranges: Intervals, times_ns: Int64s) -> Int64s:
    """For each time the last to begin of the ranges, sorted by their begin, that it lies in; -1 for none."""
    position: Int64s = np.searchsorted(ranges[:, 0], times_ns, side="right") - 1
    outer: Int64s | None = None
    while (ended := (position >= 0) & (times_ns >= ranges[position, 1])).any():
        if outer is None:
            outer = _outer(ranges)
        position[ended] = outer[position[ended]]
    return position


def _outer(ranges: Intervals) -> Int64s:
    """For each range the last one before it that has not ended when it begins; -1 for none."""
    outer, still_open = [], list[int]()
    ends_ns = ranges[:, 1].tolist()
    for i, begin_ns in enumerate(ranges[:, 0].tolist()):
        while still_open and ends_ns[still_open[-1]] <= begin_ns:
            still_open.pop()
        outer.append(still_open[-1] if still_open else -1)
        still_open.append(i)
    return np.array(outer, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Fact:
    """What is told of a collective that holds whenever it is called."""

    kind: int
    payload_bytes: int
    wire_bytes: int
    source: int
    destination: int
    group: ProcessGroup | None

    NUMBERS: ClassVar = ("kind", "payload_bytes", "wire_bytes", "source", "destination")

    @property
    def numbers(self) -> list[int]:
        return [getattr(self, name) for name in self.NUMBERS]


def _facts(events: Events, teller_name: int, detail: int, kernel_name: int, groups: GroupTable) -> _Fact:
    metadata: dict[str, Any] = {COLLECTIVE_NAME: events.names[teller_name]} if teller_name != UNKNOWN else {}
    metadata |= events.details[detail] if detail != UNKNOWN else {}
    kind = named_kind(str(metadata.get(COLLECTIVE_NAME, ""))) or kernel_kind(events.names[kernel_name]) or OTHER_COMM
    group = groups.of_metadata(metadata)
    payload = _payload_bytes(kind, metadata)
    size = group.size if group else None
    wire = UNKNOWN if payload == UNKNOWN or not size else round(payload * wire_factor(kind, size))
    return _Fact(
        kind=COMM_KINDS.index(kind),
        payload_bytes=payload,
        wire_bytes=wire,
        source=_rank(metadata.get("Src Rank")) if kind == "p2p" else UNKNOWN,
        destination=_rank(metadata.get("Dst Rank")) if kind == "p2p" else UNKNOWN,
        group=group,
    )


def _rank(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else UNKNOWN


def _payload_bytes(kind: str, metadata: dict[str, Any]) -> int:
    elements = metadata.get("Out msg nelems" if kind == "all_gather" else "In msg nelems")
    element_bytes = DTYPE_BYTES.get(str(metadata.get("dtype", "")).lower())
    if not isinstance(elements, int) or element_bytes is None or not 0 <= elements < 2**53:
        return UNKNOWN
    return elements * element_bytes


def _has_metadata(events: Events) -> Any:
    """Which rows of `detail_row` have NCCL's metadata."""
    named = np.array([COLLECTIVE_NAME in details for details in events.details], dtype=np.bool_)
    return named[events.detail] if len(named) else np.zeros(len(events.detail), dtype=np.bool_)


def _placed(found: Any, values: Int64s) -> Int64s:
    placed = np.full(len(found), UNKNOWN, dtype=np.int64)
    placed[found] = values
    return placed
