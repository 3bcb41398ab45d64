"""How the run went: its steps, its memory and its counters over time, a line a rank, GPU, node or link."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.analysis.result import Series
from shardprof.render._html.figures import Figure, Line, lines
from shardprof.render._html.page import Section
from shardprof.trace.counter_names import COUNTERS, UNITS
from shardprof.words import Scale, plural, size_scale, time_scale

_MOST_LINES = 16
_TITLES = {
    "step_ns": "Time of each recorded step",
    "allocated_bytes": "Allocated by tensors when a step ended",
    "reserved_bytes": "Reserved by torch's allocator when a step ended",
    "peak_allocated_bytes": "Most ever allocated by tensors",
}
_RATE = "_per_s"


def section(series: Sequence[Series]) -> Section:
    """The section; empty where nothing was recorded over time."""
    names = list(dict.fromkeys((_kind(one), one.name) for one in series))
    first_ns = min((one.times_ns[0] for one in series), default=0)
    figures = [_figure([one for one in series if (_kind(one), one.name) == name], first_ns) for name in names]
    return Section(name="time", short="Over time", title="Memory and counters over time", figures=tuple(figures))


def _kind(series: Series) -> str:
    """What has the counter: memory in use is another thing of a node than of a GPU."""
    return series.subject.split(" ")[0] if series.rank is not None else "node" if series.subject == "node" else "link"


def _figure(alike: Sequence[Series], first_ns: int) -> Figure:
    shown = sorted(alike, key=lambda one: -max(one.values))[:_MOST_LINES]
    hosts = {one.host for one in alike}
    drawn = [
        Line(
            name=_name(one, several=len(hosts) > 1),
            seconds=tuple((time_ns - first_ns) / 1e9 for time_ns in one.times_ns),
            values=one.values,
        )
        for one in alike
        if one in shown
    ]
    hidden = len(alike) - len(shown)
    notes = (f"the {_MOST_LINES} highest; {plural(hidden, 'line')} more in --format json",) if hidden else ()
    return lines(_title(alike[0]), _scale(alike), drawn, notes)


def _title(series: Series) -> str:
    known = COUNTERS.get(series.name) or COUNTERS.get(series.name.removesuffix(_RATE))
    label = _TITLES.get(series.name) or (known.label if known else series.name)
    whose = {"gpu": "GPU: ", "node": "Node: ", "link": "Network: "}.get(_kind(series), "")
    return whose + label if whose else label[0].upper() + label[1:]


def _name(series: Series, *, several: bool) -> str:
    of_rank = f" (rank {series.rank})" if series.rank is not None and not series.subject.startswith("rank ") else ""
    return f"{series.subject}{of_rank}{f' on {series.host}' if several else ''}"


def _scale(alike: Sequence[Series]) -> Scale:
    name, values = alike[0].name, [value for one in alike for value in one.values]
    if name.endswith("_ns"):
        return time_scale(values)
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    if unit in ("B", "B/s"):
        scale = size_scale(values)
        return Scale(unit=scale.unit + unit[1:], divisor=scale.divisor, decimals=scale.decimals)
    return Scale(unit=unit, divisor=1, decimals=0 if max(values, default=0) >= 100 else 1)
