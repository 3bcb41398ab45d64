"""Where ranks exchange Python objects or meet at a barrier."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import standing
from shardprof.engine import Int64s, Intervals, holding, merge
from shardprof.trace.classes import COMM_KINDS, OTHER_COMM
from shardprof.trace.collectives import UNKNOWN

NO_ROWS = np.empty(0, dtype=np.int64)
_OBJECTS = {
    ("all_gather", "all_gather"): "all_gather_object",
    ("all_gather", OTHER_COMM): "gather_object",
    ("broadcast", "broadcast"): "broadcast_object_list",
    ("broadcast", OTHER_COMM): "scatter_object_list",
}
"""How torch sends pickled objects: their lengths as whole numbers, then their bytes, by collectives of these kinds."""

_BARRIER = re.compile(r"c10d::(?:monitored_)?barrier_?$").match


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Calls of one `name`: their begin on the host, the rows of their communication and of their own waits."""

    name: str
    begins_ns: Int64s
    rows: Int64s
    waits: Int64s


def exchanges(view: View) -> Iterator[Exchange]:
    """All of the trace."""
    yield from _objects(view)
    yield from _barriers(view)


def _objects(view: View) -> Iterator[Exchange]:
    collectives = view.activities.collectives
    collectives = collectives.where(np.flatnonzero(collectives.row != UNKNOWN))
    collectives = collectives.where(np.lexsort((collectives.begin_ns, collectives.launched_ns)))
    types = _element_types(view, collectives.row)
    is_pair = (types[:-1] == "long") & (types[1:] == "byte") & (collectives.group[:-1] == collectives.group[1:])
    for (lengths, objects), name in _OBJECTS.items():
        of_kinds = collectives.kind[:-1] == COMM_KINDS.index(lengths)
        of_kinds &= collectives.kind[1:] == COMM_KINDS.index(objects)
        first = np.flatnonzero(is_pair & of_kinds)
        if len(first):
            spans = np.stack((collectives.launched_ns[first], collectives.launched_ns[first + 1]), axis=1)
            rows = np.sort(np.concatenate((collectives.row[first], collectives.row[first + 1])))
            yield Exchange(name=name, begins_ns=spans[:, 0], rows=rows, waits=_waits(view, spans))


def _barriers(view: View) -> Iterator[Exchange]:
    events, collectives = view.events, view.activities.collectives
    calls = np.flatnonzero(events.named(_BARRIER))
    if not len(calls):
        return
    spans = events.intervals(calls)
    inside = holding(merge(spans), collectives.launched_ns) >= 0
    rows = collectives.row[inside & (collectives.row != UNKNOWN)]
    # The call itself may hold the host.
    waits = np.union1d(_waits(view, spans), calls) if view.on_gpu else NO_ROWS
    rows = np.sort(rows) if view.on_gpu else np.union1d(rows, calls)
    yield Exchange(name="barrier", begins_ns=spans[:, 0], rows=rows, waits=waits)


def _waits(view: View, spans: Intervals) -> Int64s:
    """The calls that stand still for the GPU since a span's begin, until more computing is launched after its end."""
    calls = standing(view) if view.on_gpu else NO_ROWS
    events = view.events
    launches_ns = np.sort(events.begin_ns[view.launching(np.flatnonzero(events.in_categories("kernel")))])
    launches_ns = np.append(launches_ns, np.iinfo(np.int64).max)
    until_ns = launches_ns[np.searchsorted(launches_ns, spans[:, 1], side="right")]
    return calls[holding(merge(np.stack((spans[:, 0], until_ns), axis=1)), events.begin_ns[calls]) >= 0]


def _element_types(view: View, rows: Int64s) -> Any:
    """The type of what each communication carries: "long", "byte" or "" for others."""
    events = view.events
    types = np.array([*map(_element_type, events.details), ""])
    position = np.minimum(np.searchsorted(events.detail_row, rows), max(len(events.detail_row) - 1, 0))
    is_told = events.detail_row[position] == rows if len(events.detail_row) else np.zeros(len(rows), dtype=np.bool_)
    detail = np.full(len(rows), len(events.details))
    detail[is_told] = events.detail[position[is_told]]
    return types[detail]


def _element_type(details: dict[str, Any]) -> str:
    types = details.get("Input type")
    told = details.get("dtype") or next(iter(types if isinstance(types, list) else []), "")
    return {"Long": "long", "long int": "long", "Byte": "byte", "unsigned char": "byte"}.get(str(told), "")
