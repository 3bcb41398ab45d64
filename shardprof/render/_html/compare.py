"""A comparison as a page: what the difference consists of, both sides of every figure, what keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.analysis.comparing.comparison import Comparison, KernelChange
from shardprof.render._compare_tables import (
    calls_table,
    communication_table,
    figures_table,
    kernels_table,
    signed,
)
from shardprof.render._compare_verdict import believed_change, signed_percent
from shardprof.render._compare_view import Bar, CompareView, compare_view, waterfall_begin_ns
from shardprof.render._html.figures import Axis, Figure, Part, View, bars
from shardprof.render._html.page import Page, Section, Tile, sentence
from shardprof.render._palette import CLASS_LOOKS, LONGER, SHORTER, SIDES, WHOLE
from shardprof.render._tables import Table
from shardprof.trace.classes import CLASSES, class_name
from shardprof.words import change_scale, duration, size_scale, time_scale

_FAIRNESS = ("not comparable", "mind")


def page_of(comparison: Comparison) -> Page:
    """The page of a comparison."""
    words = compare_view(comparison)
    return Page(
        title=words.title,
        kind="shardprof compare",
        about=tuple(f"{name}: {about}" for name, about in words.sides),
        verdict=words.verdict,
        warning=words.warning,
        tiles=_tiles(comparison),
        sections=(
            _steps(comparison, words),
            _fairness(words),
            _communication(comparison),
            _work(comparison),
            _figures(comparison),
            _remarks(words),
        ),
        missing=_missing(comparison),
        next_commands=words.next_commands,
    )


def _tiles(comparison: Comparison) -> tuple[Tile, ...]:
    sides = [("A", comparison.a), ("B", comparison.b)]
    change = believed_change(comparison)
    told = [
        Tile(
            label=f"step of {name}",
            value=duration(side.median_ns),
            remark="" if side.recorded_ns is None else f"{duration(side.recorded_ns)} without the profiler",
        )
        for name, side in sides
        if side.median_ns is not None
    ]
    return (*told, *((Tile(label="B against A", value=signed_percent(change)),) if change is not None else ()))


def _fairness(words: CompareView) -> Section:
    lines = tuple(
        sentence(f"{label}: {line}") for label, found in words.remarks if label in _FAIRNESS for line in found
    )
    return Section(name="fairness", short="Fairness", title="Can they be compared?", lines=lines)


def _steps(comparison: Comparison, words: CompareView) -> Section:
    figures = (
        *((_waterfall(words.waterfall, words.waterfall_note),) if words.waterfall else ()),
        *((_classes(comparison),) if comparison.waterfall else ()),
    )
    tables = (("", words.steps),) if words.steps else ()
    return Section(name="steps", short="Steps", title="What the difference consists of", figures=figures, tables=tables)


def _waterfall(shown: Sequence[Bar], note: str) -> Figure:
    kinds = (("step", WHOLE, 0), ("longer", LONGER, 1), ("shorter", SHORTER, -1))
    signs = [(bar.change > 0) - (bar.change < 0) for bar in shown]
    lengths = [abs(bar.end_ns - bar.begin_ns) for bar in shown]
    parts = tuple(
        Part(
            name=name,
            look=look,
            values=tuple(length if of == sign else None for of, length in zip(signs, lengths, strict=True)),
            begins=tuple(min(bar.begin_ns, bar.end_ns) for bar in shown),
            words=tuple(bar.figure for bar in shown),
        )
        for name, look, sign in kinds
    )
    scale = change_scale([bar.end_ns for bar in shown if not bar.change], [bar.change for bar in shown if bar.change])
    return bars(
        "From A's mean step to B's",
        Axis(name="mean step", scale=scale, mode="overlay", start=waterfall_begin_ns(shown)),
        [View(labels=tuple(bar.label for bar in shown), parts=parts)],
        table=Table(
            columns=("mean step", "change"),
            rows=tuple((bar.label, bar.figure) for bar in shown),
            words=frozenset({"mean step"}),
        ),
        notes=(note,),
    )


def _classes(comparison: Comparison) -> Figure:
    by_name = {part.name: part for part in comparison.waterfall}
    named = [by_name[name] for name in CLASSES if name in by_name]
    parts = tuple(
        Part(name=class_name(part.name), look=CLASS_LOOKS[part.name], values=(part.a_ns, part.b_ns)) for part in named
    )
    scale = change_scale(
        [sum(part.a_ns for part in named), sum(part.b_ns for part in named)], [part.change_ns for part in named]
    )
    table = Table(
        columns=("class", f"A ({scale.unit})", "B", "change"),
        rows=tuple(
            (class_name(part.name), scale.figure(part.a_ns), scale.figure(part.b_ns), signed(scale, part.change_ns))
            for part in named
            if part.a_ns or part.b_ns
        ),
        words=frozenset({"class"}),
    )
    return bars(
        "The mean step of both", Axis(name="side", scale=scale), [View(labels=("A", "B"), parts=parts)], table=table
    )


def _communication(comparison: Comparison) -> Section:
    table = communication_table(comparison)
    calls = calls_table(comparison.calls or ())
    known = [row for row in comparison.kinds if row.a.payload_bytes is not None and row.b.payload_bytes is not None]
    parts = tuple(
        Part(name=name, look=look, values=tuple(getattr(row, side).payload_bytes.per_step for row in known))
        for name, look, side in (("A", SIDES[0], "a"), ("B", SIDES[1], "b"))
    )
    values = [value for part in parts for value in part.values if value is not None]
    labels = tuple(class_name(row.kind) for row in known)
    view = View(labels=labels, parts=parts)
    axis = Axis(name="kind", scale=size_scale(values), mode="group")
    figure = bars("Payload of a step and rank", axis, [view])
    return Section(
        name="communication",
        short="Communication",
        title="Communication",
        figures=(figure,) if any(values) else (),
        tables=(("", table),) if table else (),
        folded=(("Sizes that one side calls more often", calls),) if calls else (),
    )


def _work(comparison: Comparison) -> Section:
    what = "Kernels" if comparison.on_gpu else "Operators"
    table = kernels_table(comparison.kernels or (), on_gpu=comparison.on_gpu)
    figures = (_changes(comparison.kernels or (), table, what.lower()),) if table else ()
    return Section(name="work", short=what, title=f"{what} whose time changed most", figures=figures)


def _changes(kernels: Sequence[KernelChange], table: Table, what: str) -> Figure:
    shown = [row for row in kernels if row.change_ns][: len(table.rows)]
    parts = tuple(
        Part(
            name=name,
            look=look,
            values=tuple(row.change_ns if (row.change_ns > 0) == longer else None for row in shown),
        )
        for name, look, longer in (("longer", LONGER, True), ("shorter", SHORTER, False))
    )
    axis = Axis(name=what, scale=time_scale(row.change_ns for row in shown), mode="relative")
    view = View(labels=tuple(row[-1] for row in table.rows), parts=parts)
    return bars("Change of a step and rank", axis, [view], table=table)


def _figures(comparison: Comparison) -> Section:
    table = figures_table(comparison.memory, comparison.counters)
    tables = (("", table),) if table else ()
    return Section(name="memory", short="Memory", title="Memory and counters", tables=tables)


def _remarks(words: CompareView) -> Section:
    told = [(label, line) for label, lines in words.remarks if label not in _FAIRNESS for line in lines]
    lines = tuple(sentence(f"{label}: {line}") for label, line in told)
    return Section(name="remarks", short="Remarks", title="Found, noticed and doubtful on one side", lines=lines)


def _missing(comparison: Comparison) -> tuple[str, ...]:
    if comparison.kernels is not None:
        return ()
    bare = [name for name, side in (("A", comparison.a), ("B", comparison.b)) if not side.steps]
    why = (
        f"no step of {' and of '.join(bare)} was captured"
        if bare
        else "one of the sides is a saved report, which does not hold them"
    )
    return (f"Kernels and sizes of calls: {why}.",)
