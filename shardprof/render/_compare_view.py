"""A comparison as words and tables, for the outputs that people read: which lines, in which order. No layout.

Everything here may hold text from untrusted traces; an output escapes what it writes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.analysis.comparing.comparison import Comparison, Part, Side, Turnover
from shardprof.render._compare_tables import (
    calls_table,
    communication_table,
    figures_table,
    kernels_table,
    signed,
    steps_table,
)
from shardprof.render._compare_verdict import believed_change, verdict, warning
from shardprof.render._tables import Table
from shardprof.trace.classes import class_name
from shardprof.words import change_scale, numbers, plural

_MOST_REMARKS = 10
_WORTH_A_BAR = 0.005
_ZOOM = 0.25
"""The waterfall begins at nothing where its changes reach over this much of the longest bar, else just before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A line of the waterfall: its bar reaches from one time to another; `change` is 0 for the two steps."""

    label: str
    figure: str
    begin_ns: int
    end_ns: int
    change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareView:
    """The comparison from top to bottom; what there is nothing to say about is empty.

    `tables` come with a title; `remarks` are lines by label.
    """

    title: str
    sides: tuple[tuple[str, str], ...]
    verdict: str
    warning: str
    steps: Table | None
    waterfall: tuple[Bar, ...]
    waterfall_note: str
    tables: tuple[Table, ...]
    remarks: tuple[tuple[str, tuple[str, ...]], ...]
    next_commands: tuple[tuple[str, str], ...]


def compare_view(comparison: Comparison) -> CompareView:
    """The words for a comparison."""
    tables = (
        communication_table(comparison),
        calls_table(comparison.calls or ()),
        kernels_table(comparison.kernels or (), on_gpu=comparison.on_gpu),
        figures_table(comparison.memory, comparison.counters),
    )
    return CompareView(
        title=" → ".join(_names(comparison.a, comparison.b)),
        sides=(("A", _about(comparison.a)), ("B", _about(comparison.b))),
        verdict=verdict(comparison),
        warning=warning(comparison),
        steps=steps_table(comparison),
        waterfall=_bars(comparison),
        waterfall_note="the mean step, over all captured steps of all ranks; the changes sum to the difference",
        tables=tuple(table for table in tables if table),
        remarks=_remarks(comparison),
        next_commands=_next_commands(comparison),
    )


def _names(a: Side, b: Side) -> list[str]:
    """What the sides are called: their first runs, by their whole paths where the last parts are the same."""
    firsts = [side.paths[0] for side in (a, b)]
    short = [Path(path).name.removesuffix(".gz").removesuffix(".json") or path for path in firsts]
    more = [len(side.paths) - 1 for side in (a, b)]
    names = short if short[0] != short[1] else firsts
    return [name + (f" and {plural(n, 'more run')}" if n else "") for name, n in zip(names, more, strict=True)]


def _about(side: Side) -> str:
    training = ", ".join(part for part in (side.strategy, side.precision) if part)
    if side.framework and not training.startswith(side.framework):
        training = f"{side.framework} {training}".strip()
    ranks = plural(side.world_size, "rank") if side.world_size else ""
    steps = f"{'step' if len(side.steps) == 1 else 'steps'} {numbers(side.steps)}" if side.steps else "no captured step"
    runs = plural(len(side.paths), "run") if len(side.paths) > 1 else ""
    return " · ".join(part for part in (training, ranks, side.device or "", runs, steps) if part)


def _bars(comparison: Comparison) -> tuple[Bar, ...]:
    parts, a_ns, b_ns = comparison.waterfall, comparison.a.mean_ns, comparison.b.mean_ns
    if not parts or a_ns is None or b_ns is None:
        return ()
    least_ns = _WORTH_A_BAR * max(a_ns, b_ns)
    shown = [part for part in parts if abs(part.change_ns) >= least_ns]
    small = [part for part in parts if part not in shown and part.change_ns]
    if small:
        small_ns = [sum(part.a_ns for part in small), sum(part.b_ns for part in small)]
        rest = "the rest" if shown else "all classes"
        shown.append(Part(name=rest, a_ns=small_ns[0], b_ns=small_ns[1], change_ns=small_ns[1] - small_ns[0]))
    scale = change_scale([a_ns, b_ns], [part.change_ns for part in shown])
    bars = [Bar(label="A", figure=f"{scale.figure(a_ns)} {scale.unit}", begin_ns=0, end_ns=a_ns, change=0)]
    at_ns = a_ns
    for part in shown:
        figure = f"{signed(scale, part.change_ns)} {scale.unit}"
        after_ns = at_ns + part.change_ns
        label = class_name(part.name)
        bars.append(Bar(label=label, figure=figure, begin_ns=at_ns, end_ns=after_ns, change=part.change_ns))
        at_ns = after_ns
    bars.append(Bar(label="B", figure=f"{scale.figure(b_ns)} {scale.unit}", begin_ns=0, end_ns=b_ns, change=0))
    return tuple(bars)


def waterfall_begin_ns(bars: Sequence[Bar]) -> int:
    """Where the axis of the waterfall begins."""
    changes = [bar for bar in bars if bar.change]
    if not changes:
        return 0
    most_ns = max(max(bar.begin_ns, bar.end_ns) for bar in bars)
    least_ns = min(min(bar.begin_ns, bar.end_ns) for bar in changes)
    return 0 if most_ns - least_ns >= _ZOOM * most_ns else max(0, round(least_ns - (most_ns - least_ns) / 2))


def _remarks(comparison: Comparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    labelled = [(caveat.severity, f"{caveat.subject}: {caveat.message}") for caveat in comparison.caveats]
    for label, turnover in (("noticed", comparison.notices), ("found", comparison.findings)):
        labelled += _turnover(label, turnover)
    labelled += _turnover("doubtful", comparison.doubts)
    by_label: dict[str, list[str]] = {}
    for label, line in labelled:
        by_label.setdefault(label, []).append(line)
    return tuple((label, tuple(_first(lines))) for label, lines in by_label.items())


def _first(lines: list[str]) -> list[str]:
    hidden = len(lines) - _MOST_REMARKS
    return [*lines[:_MOST_REMARKS], *([f"{hidden:,} more, see --format json"] if hidden > 0 else [])]


def _turnover(label: str, turnover: Turnover | None) -> list[tuple[str, str]]:
    if turnover is None:
        return []
    return [(label, f"only A: {line}") for line in turnover.went] + [
        (label, f"only B: {line}") for line in turnover.came
    ]


def _next_commands(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    a, b = comparison.a.paths[0], comparison.b.paths[0]
    slower = b if (believed_change(comparison) or 0) >= 0 else a
    limit = shlex.quote(f"step_time=+5%@{a}")
    return (
        (f"shardprof report {shlex.quote(slower)}", "the slower one by itself"),
        (f"shardprof check {shlex.quote(b)} --max {limit}", "to hold B to it in CI"),
    )
