"""The tables of a comparison as words and figures, for the outputs that people read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, takewhile

from shardprof.analysis.comparing.comparison import (
    CallsChange,
    Comparison,
    FigureChange,
    Interval,
    KernelChange,
    PerStep,
)
from shardprof.render._compare_verdict import signed_percent
from shardprof.render._tables import Table
from shardprof.render._words import duration_if_known
from shardprof.trace.classes import class_name
from shardprof.trace.counter_names import COUNTERS
from shardprof.words import Scale, duration, size, time_scale

_MOST_ROWS = 8
_WORTH_A_COUNTER = 0.1
_NAME_HEAD, _NAME_TAIL = 40, 16
_TELLING_COUNTERS = (
    "main_thread_cpu_s", "main_thread_waiting_s", "major_page_faults", "threads", "gpu_sm_clock_mhz", "gpu_power_w",
    "gpu_temperature_c", "gpu_utilization_percent", "gpu_sm_active_percent", "gpu_tensor_active_percent",
    "gpu_dram_bandwidth_percent",
)  # fmt: skip
_MEMORY_WORDS = {
    "peak_allocated_bytes": "allocated by tensors, peak",
    "peak_active_bytes": "active in the allocator, peak",
    "peak_reserved_bytes": "reserved by the allocator, peak",
    "gpu_memory_used_bytes": "in use on the GPU",
    "rss_bytes": "resident memory of a rank",
}


def steps_table(comparison: Comparison) -> Table | None:
    """Each side's step: the median and where it lies, the mean, and the records' median without the profiler."""
    sides = [("A", comparison.a), ("B", comparison.b)]
    timed = [(name, side) for name, side in sides if side.median_ns is not None or side.recorded_ns is not None]
    if not timed:
        return None
    recorded = any(side.recorded_ns is not None for _, side in timed)
    lies = any(side.interval_ns for _, side in timed)
    return Table(
        columns=("step", "median", *(("95 %",) if lies else ()), "mean", *(("recorded",) if recorded else ())),
        rows=tuple(
            (
                name,
                duration_if_known(side.median_ns),
                *((_between(side.interval_ns),) if lies else ()),
                duration_if_known(side.mean_ns),
                *((duration_if_known(side.recorded_ns),) if recorded else ()),
            )
            for name, side in timed
        ),
        words=frozenset({"step"}),
        notes=("of captured steps; recorded: the median of the others, without the profiler",) if recorded else (),
    )


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    scale = time_scale([interval.low, interval.high])
    return f"{scale.figure(interval.low)} to {scale.figure(interval.high)} {scale.unit}"


def communication_table(comparison: Comparison) -> Table | None:
    """What each kind of communication calls and moves on both sides, and all of them together."""
    if not comparison.kinds:
        return None
    rows = [(class_name(row.kind).removesuffix(" communication"), row.a, row.b) for row in comparison.kinds]
    if len(rows) > 1 and comparison.all_kinds:
        rows.append(("together", comparison.all_kinds.a, comparison.all_kinds.b))
    with_wire = any(side.wire_bytes and side.wire_bytes.total for _, a, b in rows for side in (a, b))
    return Table(
        columns=("communication", "calls", "payload", "change", *(("wire",) if with_wire else ())),
        rows=tuple(
            (
                name,
                f"{_count(a.calls)} → {_count(b.calls)}",
                f"{_size(a.payload_bytes)} → {_size(b.payload_bytes)}",
                _byte_change(a.payload_bytes, b.payload_bytes),
                *((f"{_size(a.wire_bytes)} → {_size(b.wire_bytes)}",) if with_wire else ()),
            )
            for name, a, b in rows
        ),
        words=frozenset({"communication"}),
        notes=(
            "a step and rank, on average; 1 MB = 1e6 B",
            *(("wire: what a rank sends for it",) if with_wire else ()),
        ),
        spare=("wire", "calls") if with_wire else ("calls",),
    )


def _count(calls: PerStep | None) -> str:
    if calls is None:
        return "unknown"
    whole = calls.per_step == int(calls.per_step)
    return "-" if not calls.total else f"{calls.per_step:,.0f}" if whole else f"{calls.per_step:,.2f}"


def _size(moved: PerStep | None) -> str:
    return "unknown" if moved is None else size(moved.per_step) if moved.total else "-"


def _byte_change(a: PerStep | None, b: PerStep | None) -> str:
    """To the byte where that is exact."""
    if a is None or b is None:
        return ""
    change = b.per_step - a.per_step
    exact = f"{change:+,.0f} B" if change == int(change) else f"{change:+,.1f} B"
    return exact if change else "none"


def calls_table(rows: Sequence[CallsChange]) -> Table | None:
    """The sizes that one side calls more often than the other, those that move the most first."""
    changed = [row for row in rows if row.a_calls.per_step != row.b_calls.per_step]
    shown = sorted(changed, key=lambda row: -abs(row.b_calls.per_step - row.a_calls.per_step) * (row.call_bytes or 0))
    if not shown:
        return None
    hidden = len(shown) - _MOST_ROWS
    return Table(
        columns=("calls of one size", "bytes a call", "calls A", "calls B"),
        rows=tuple(
            (
                class_name(row.kind).removesuffix(" communication"),
                "unknown" if row.call_bytes is None else f"{row.call_bytes:,}",
                _count(row.a_calls),
                _count(row.b_calls),
            )
            for row in shown[:_MOST_ROWS]
        ),
        words=frozenset({"calls of one size"}),
        notes=(f"{hidden:,} more sizes changed, see --format json",) if hidden > 0 else (),
    )


def kernels_table(rows: Sequence[KernelChange], *, on_gpu: bool) -> Table | None:
    """The kernels, or operators, whose time changed most."""
    shown = [row for row in rows if row.change_ns][:_MOST_ROWS]
    if not shown:
        return None
    what = "kernel" if on_gpu else "operator"
    scale = time_scale(row.change_ns for row in shown)
    note = "of all kernels but those that communicate" if on_gpu else "time outside the operators that it calls"
    return Table(
        columns=(f"change ({scale.unit})", "A", "B", "calls A", "calls B", what),
        rows=tuple(
            (
                signed(scale, row.change_ns),
                scale.figure(row.a_ns),
                scale.figure(row.b_ns),
                _count(row.a_calls),
                _count(row.b_calls),
                name,
            )
            for row, name in zip(shown, _told_apart([row.name for row in shown]), strict=True)
        ),
        words=frozenset({what}),
        notes=(f"a step and rank; {note}; those that changed most",),
    )


def _told_apart(names: Sequence[str]) -> list[str]:
    """Short names, no two alike: of C++ kernels without parameters, of long ones the ends; where that makes some alike,
    with their parameters and with what they differ in."""
    plain = [_without_parameters(name.removeprefix("void ")) if name.startswith("void ") else name for name in names]
    often = Counter(plain)
    distinct = [short if often[short] == 1 else name for short, name in zip(plain, names, strict=True)]
    return [_shortened(name, [other for other in distinct if _ends(other) == _ends(name)]) for name in distinct]


def _ends(name: str) -> str:
    return name if len(name) <= _NAME_HEAD + _NAME_TAIL + 1 else f"{name[:_NAME_HEAD]}…{name[-_NAME_TAIL:]}"


def _shortened(name: str, alike: Sequence[str]) -> str:
    """The ends of a long name; where others are `alike` in these, with its words from the first to the last in which
    they differ."""
    if len(alike) == 1:
        return _ends(name)
    words = {other: re.findall(r"\w+|\W", other) for other in alike}
    part_at = [_shared(*pair) for pair in combinations(words.values(), 2)]
    between = "".join(words[name][min(part_at) : max(part_at) + 1])
    return min(f"{name[:_NAME_HEAD]}…{between}…{name[-_NAME_TAIL:]}", name, key=len)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words they begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _without_parameters(signature: str) -> str:
    """Up to the bracket that the last one closes: others are in `(anonymous namespace)` and in template arguments."""
    if not signature.endswith(")"):
        return signature
    depth = 0
    for at in range(len(signature) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(signature[at], 0)
        if not depth:
            return signature[:at] or signature
    return signature


def figures_table(memory: Sequence[FigureChange], counters: Sequence[FigureChange]) -> Table | None:
    """Memory, and of the other counters those that tell something and changed."""
    rows = [(size(row.a), size(row.b), _relative(row), _MEMORY_WORDS[row.name]) for row in memory]
    rows += [
        (_counter(row.name, row.a), _counter(row.name, row.b), _relative(row), _counter_name(row.name))
        for row in counters
        if row.name in _TELLING_COUNTERS and _distance(row) >= _WORTH_A_COUNTER
    ]
    if not rows:
        return None
    notes = ("memory: the most of any rank; counters: the mean over steps, those that changed by 10 % or more",)
    head = "memory and counters"
    return Table(columns=("A", "B", "change", head), rows=tuple(rows), words=frozenset({head}), notes=notes)


def _distance(row: FigureChange) -> float:
    return abs(row.b - row.a) / max(abs(row.a), abs(row.b)) if row.a != row.b else 0.0


def _relative(row: FigureChange) -> str:
    return "none" if row.a == row.b else signed_percent(row.b / row.a - 1) if row.a else ""


def _counter_name(name: str) -> str:
    plain = name.removeprefix("gpu_")
    label = COUNTERS[plain].label if plain in COUNTERS else plain
    return f"GPU: {label}" if plain != name else label


def _counter(name: str, value: float) -> str:
    known = COUNTERS.get(name.removeprefix("gpu_"))
    if known is None or not known.unit:
        return f"{value:,.4g}"
    return (
        duration(1e9 * value)
        if known.unit == "s"
        else size(value)
        if known.unit == "B"
        else f"{value:,.4g} {known.unit}"
    )


def signed(scale: Scale, time_ns: int) -> str:
    """A change without its unit; one that is too small for its column has no sign."""
    figure = scale.figure(abs(time_ns))
    return figure if figure.startswith("<") else f"{'-' if time_ns < 0 else '+'}{figure}"
