"""What ran on the CPU of a job without GPUs: real operators, and gloo's transfers named by the calls behind them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from shardprof.engine import NOTHING, Intervals, holding, merge
from shardprof.trace.activities import Activities
from shardprof.trace.classes import COMM_KINDS, comm_kind, wire_factor
from shardprof.trace.collectives import Collective, ProcessGroup, as_columns
from shardprof.trace.events import Events, Mask
from shardprof.trace.groups import GroupTable

GROUP_MARK = "shardprof::group "
"""The range in which recording wraps each collective call, since gloo's events do not name their process group."""

TENSOR_ARGUMENTS = ("Input Dims", "Input type")
"""What the profiler tells of the tensors of a call, as far as it is used here."""

# Ranges around operators are no work of their own: frameworks wait for communication inside them.
_WRAPPER_NAMESPACES = {"c10d", "autograd", "c10d_functional", "_c10d_functional", "_c10d_functional_autograd"}

_ELEMENT_BYTES = {
    "double": 8, "long int": 8, "long": 8, "c10::complex<float>": 8,
    "float": 4, "int": 4,
    "c10::Half": 2, "c10::BFloat16": 2, "short": 2, "short int": 2,
    "unsigned char": 1, "signed char": 1, "char": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A c10d call: its kind, the elements that gloo will move for it, and the payload in elements."""

    kind: str
    begin_ns: int
    moved_elements: int
    payload_elements: int | None
    group: ProcessGroup | None


def cpu_activities(events: Events, groups: GroupTable, data_loading: Intervals, main_thread: int | None) -> Activities:
    """The activities of a trace without device events; `data_loading` is of the `main_thread`."""
    transfers = events.named(lambda name: name.startswith("gloo:"))
    collectives = as_columns(list(_collectives(events, np.flatnonzero(transfers), groups)))
    # Operators nest in the DataLoader's range.
    loading = (holding(data_loading, events.begin_ns) >= 0) & (events.thread == main_thread)
    present = [COMM_KINDS[kind] for kind in np.unique(collectives.kind).tolist()]
    operators = _operators(events, transfers, main_thread) & ~loading
    return Activities(
        device="cpu",
        compute=merge(events.intervals(operators)),
        work_begin_ns=np.sort(events.begin_ns[operators]),
        comm={kind: collectives.intervals(kind) for kind in present},
        memcpy=NOTHING,
        memset=NOTHING,
        data_loading=data_loading,
        late_launches=NOTHING,
        launches=np.empty(0, dtype=np.int64),
        collectives=collectives,
    )


def is_operator(name: str) -> bool:
    """Whether a CPU event of this name is work: `aten::mm` is, `autograd::engine::evaluate_function: ...` is not."""
    namespaces = name.split(" ", 1)[0].split("::")[:-1]
    return bool(namespaces) and not _WRAPPER_NAMESPACES.intersection(namespaces)


def _operators(events: Events, transfers: Mask, main_thread: int | None) -> Mask:
    # gloo sends and receives on the thread that calls it: that does not make it a communication thread.
    comm_threads = np.setdiff1d(events.thread[transfers], [main_thread])
    operators: Mask = events.in_categories("cpu_op") & events.named(is_operator) & ~np.isin(events.thread, comm_threads)
    return operators


def _collectives(events: Events, transfer_rows: Any, groups: GroupTable) -> Iterator[Collective]:
    """Each transfer with the call that launched it: gloo works a group's calls off in order."""
    waiting = _calls_by_transfer_name(events, groups)
    taken = []
    for row in sorted(transfer_rows.tolist(), key=lambda row: int(events.begin_ns[row])):
        elements = _elements(_listed(events.arguments(row), "Input Dims"))
        taken.append((row, elements, _take_call(waiting[events.name_of(row)], int(events.begin_ns[row]), elements)))
    of_threads = _groups_of_threads(events, [(row, call) for row, _, call in taken if call])
    for row, elements, call in taken:
        name = events.name_of(row)
        arguments = events.arguments(row)
        begin_ns = int(events.begin_ns[row])
        kind = call.kind if call else comm_kind(name)
        group = call.group if call else groups.only()
        if group is None or group.ranks is None:
            group = of_threads.get(int(events.thread[row]), group)
        payload = 0 if name == "gloo:barrier" else _payload_bytes(call, elements, arguments)
        yield Collective(
            row=row,
            kind=kind,
            launched_ns=call.begin_ns if call else begin_ns,
            begin_ns=begin_ns,
            end_ns=int(events.end_ns[row]),
            payload_bytes=payload,
            wire_bytes=_wire_bytes(payload, kind, name, group),
            group=group,
        )


def _groups_of_threads(events: Events, taken: list[tuple[int, _Call]]) -> dict[int, ProcessGroup]:
    """The group of which a thread runs all transfers: gloo has threads of its own for each group, so that calls from
    C++, which are in no range, have that group too. What is sent to one rank runs on the thread that calls."""
    found: dict[int, dict[str, ProcessGroup]] = defaultdict(dict)
    for row, call in taken:
        if call.group is not None and call.group.ranks is not None and call.kind != "p2p":
            found[int(events.thread[row])][call.group.name] = call.group
    return {thread: next(iter(own.values())) for thread, own in found.items() if len(own) == 1}


def _calls_by_transfer_name(events: Events, groups: GroupTable) -> dict[str, deque[_Call]]:
    marks = _group_marks(events)
    calls: dict[str, deque[_Call]] = defaultdict(deque)
    rows = np.flatnonzero(events.named(lambda name: name.startswith("c10d::")))
    for row in rows[np.argsort(events.begin_ns[rows], kind="stable")].tolist():
        call = _call(events, row, marks, groups)
        # gloo runs a reduce-scatter as an all-reduce of the whole input; a later gloo may not.
        names = {_transfer_name(events.name_of(row), call.kind)}
        for name in names | {"gloo:all_reduce"} if call.kind == "reduce_scatter" else names:
            calls[name].append(call)
    return calls


def _transfer_name(call_name: str, kind: str) -> str:
    """What gloo calls the transfer of a c10d call: `c10d::_allgather_base_` is `gloo:all_gather`."""
    if kind in ("p2p", "other_comm"):
        return "gloo:" + call_name.removeprefix("c10d::").strip("_")
    return f"gloo:{kind}"


def _call(events: Events, row: int, marks: dict[int, list[tuple[int, int, str]]], groups: GroupTable) -> _Call:
    kind = comm_kind(events.name_of(row))
    dims = _listed(events.arguments(row), "Input Dims")
    tensors = [_elements(shape) for shape in dims if _elements(shape)]
    output, source = (tensors[0], tensors[1]) if len(tensors) > 1 else (None, tensors[0] if tensors else 0)
    group = _marked_group(events, row, marks, groups)
    if group is None and output and source and kind in ("all_gather", "reduce_scatter"):
        group = groups.of_size(max(output, source) // min(output, source))
    group = group or groups.only()
    payload: int | None = source or None
    if kind == "all_gather":
        payload = output or (source * group.size if group and group.size and source else None)
    return _Call(
        kind=kind, begin_ns=int(events.begin_ns[row]), moved_elements=source, payload_elements=payload, group=group
    )


def _group_marks(events: Events) -> dict[int, list[tuple[int, int, str]]]:
    """By thread, in order: begin, end and group name of each range in which recording wrapped a call."""
    marks: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for row in np.flatnonzero(events.named(lambda name: name.startswith(GROUP_MARK))).tolist():
        name = events.name_of(row)[len(GROUP_MARK) :]
        marks[int(events.thread[row])].append((int(events.begin_ns[row]), int(events.end_ns[row]), name))
    return {thread: sorted(spans) for thread, spans in marks.items()}


def _marked_group(
    events: Events, row: int, marks: dict[int, list[tuple[int, int, str]]], groups: GroupTable
) -> ProcessGroup | None:
    begin_ns = int(events.begin_ns[row])
    spans = marks.get(int(events.thread[row]), [])
    position = bisect_right(spans, begin_ns, key=lambda span: span[0]) - 1
    if position < 0 or begin_ns >= spans[position][1]:
        return None
    return groups.named(spans[position][2])


def _take_call(waiting: deque[_Call], transfer_begin_ns: int, elements: int) -> _Call | None:
    for call in waiting:
        if call.begin_ns > transfer_begin_ns:
            break
        if not elements or not call.moved_elements or call.moved_elements == elements:
            waiting.remove(call)
            return call
    return None


def _payload_bytes(call: _Call | None, elements: int, arguments: dict[str, Any]) -> int | None:
    types = [name for name in map(str, _listed(arguments, "Input type")) if name in _ELEMENT_BYTES]
    payload_elements = call.payload_elements if call else elements
    if not types or not payload_elements:
        return None
    return payload_elements * _ELEMENT_BYTES[types[0]]


def _wire_bytes(payload: int | None, kind: str, transfer_name: str, group: ProcessGroup | None) -> int | None:
    if payload is None or group is None or not group.size:
        return None
    carried_as = comm_kind(transfer_name) if kind == "reduce_scatter" else kind
    return round(payload * wire_factor(carried_as, group.size))


def _listed(arguments: dict[str, Any], name: str) -> list[Any]:
    value = arguments.get(name)
    return value if isinstance(value, list) else []


def _elements(dims: Any) -> int:
    """Elements of a tensor by its shape, or of all tensors by a list of shapes, where [] is a single number.

    0 where no tensor is told: alone, [] stands for what is none.
    """
    if not isinstance(dims, list) or not dims:
        return 0
    if all(isinstance(size, int) for size in dims):
        return max(prod(dims), 0)
    return sum(1 if shape == [] else _elements(shape) for shape in dims)
