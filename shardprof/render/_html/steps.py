"""Where the time of steps went: by rank, by step, and what the slowest step has over the median one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shardprof.analysis.result import Rank, Result, Step, StepOfRank, StepsSummary, Summary
from shardprof.render._compare_tables import signed
from shardprof.render._html.figures import Axis, Figure, Part, View, bars
from shardprof.render._html.page import Section, sentence
from shardprof.render._palette import CLASS_LOOKS
from shardprof.render._tables import Table, rank_table, recorded_table
from shardprof.render._view import short_names
from shardprof.trace.classes import CLASSES, class_name
from shardprof.words import change_scale, plural, time_scale

_MOST_STEPS = 100


def section(result: Result, summary: Summary, groups: Sequence[str], slowest: str) -> Section:
    """The section; `groups` of classes are those worth a column, `slowest` the words for the slowest step."""
    recorded = recorded_table(result.ranks)
    steps = summary.steps
    figures = _figures(result, summary, steps) if steps else ()
    tables = [("Step times", _named(rank_table(summary, groups), groups))] if steps else []
    of_all = [("Every recorded step: time on the main thread", recorded)] if recorded else []
    return Section(
        name="steps",
        short="Steps",
        title="Where the time went" if summary.window == "trace" else "Where a step's time went",
        lines=(sentence(f"slowest step: {slowest}"),) if slowest else (),
        figures=figures,
        tables=tuple(tables or of_all),
        folded=tuple(of_all if tables else ()),
    )


def _named(table: Table, groups: Sequence[str]) -> Table:
    """The table of ranks with what its columns are."""
    return replace(table, notes=("median step; shares of time in %", *short_names(groups), *table.notes))


def _figures(result: Result, summary: Summary, steps: StepsSummary) -> tuple[Figure, ...]:
    ranks = shown_ranks(result, summary)
    found = [_by_rank(ranks, summary)]
    if summary.window == "step":
        found += [_by_step(result, ranks), *_slowest(result, steps)]
    return tuple(found)


def shown_ranks(result: Result, summary: Summary) -> tuple[Rank, ...]:
    """Of many ranks those that stand out, as in the terminal; else all; those that have steps with work."""
    marked = {rank.rank for rank in summary.ranks if rank.remark}
    return tuple(rank for rank in result.ranks if _full(rank) and (rank.rank in marked or not marked))


def _full(rank: Rank) -> list[Step]:
    return [step for step in rank.steps if not step.empty]


def _by_rank(ranks: Sequence[Rank], summary: Summary) -> Figure:
    remarks = {rank.rank: rank.remark for rank in summary.ranks}
    means = [_means(_full(rank)) for rank in ranks]
    hidden = len(summary.ranks) - len(ranks)
    labels = tuple(" ".join(filter(None, (str(rank.rank), remarks[rank.rank]))) for rank in ranks)
    return bars(
        f"Mean {summary.window} of each rank",
        Axis(name="rank", scale=time_scale(sum(mean.values()) for mean in means)),
        [View(labels=labels, parts=_parts(means))],
        notes=(f"{hidden:,} more {'rank is' if hidden == 1 else 'ranks are'} not shown",) if hidden else (),
    )


def _by_step(result: Result, ranks: Sequence[Rank]) -> Figure:
    by_number = _by_number(result.ranks)
    shown = _chosen_steps(by_number)
    with_steps = sum(1 for rank in result.ranks if _full(rank))
    views = [_steps_view(f"mean of {plural(with_steps, 'rank')}", by_number, shown)]
    if with_steps > 1:
        views += [_steps_view(f"rank {rank.rank}", _by_number([rank]), shown) for rank in ranks]
    hidden = len(by_number) - len(shown)
    longest = (sum(part.values[i] or 0 for part in view.parts) for view in views for i in range(len(view.labels)))
    return bars(
        "Each captured step",
        Axis(name="step", scale=time_scale(longest), upright=True),
        views,
        chooses="ranks",
        notes=(f"{hidden:,} more steps, among them no slower one, are not shown",) if hidden else (),
    )


def _by_number(ranks: Sequence[Rank]) -> dict[int, list[Step]]:
    by_number: dict[int, list[Step]] = {}
    for step in (step for rank in ranks for step in _full(rank)):
        by_number.setdefault(step.step, []).append(step)
    return by_number


def _steps_view(name: str, by_number: Mapping[int, Sequence[Step]], shown: Sequence[int]) -> View:
    own = [number for number in shown if number in by_number]
    parts = _parts([_means(by_number[number]) for number in own])
    return View(name=name, labels=tuple(map(str, own)), parts=parts)


def _chosen_steps(by_number: Mapping[int, Sequence[Step]]) -> list[int]:
    """All steps, or of very many the slowest."""
    slowest = sorted(by_number, key=lambda number: -max(step.wall_ns for step in by_number[number]))
    return sorted(slowest[:_MOST_STEPS])


def _means(steps: Sequence[Step]) -> dict[str, float]:
    """What each class takes of a step."""
    return {name: sum(step.partition_ns.get(name, 0) for step in steps) / len(steps) for name in CLASSES}


def _parts(means: Sequence[Mapping[str, float]]) -> tuple[Part, ...]:
    return tuple(
        Part(name=class_name(name), look=CLASS_LOOKS[name], values=tuple(mean[name] for mean in means))
        for name in CLASSES
    )


def _slowest(result: Result, steps: StepsSummary) -> tuple[Figure, ...]:
    """The difference by class, where there is one; its table has both steps."""
    names = [name for name in CLASSES if steps.slower_ns.get(name)]
    if not names:
        return ()
    median, slowest = (_partition(result, step) for step in (steps.median, steps.slowest))
    scale = change_scale([steps.slowest.wall_ns], [steps.slower_ns[name] for name in names])
    title = "The slowest step against the median one"
    parts = tuple(
        Part(
            name=class_name(name),
            look=CLASS_LOOKS[name],
            values=tuple(steps.slower_ns[name] if other == name else None for other in names),
        )
        for name in names
    )
    table = Table(
        columns=("class", *(f"{_called(step)} ({scale.unit})" for step in (steps.median, steps.slowest)), "difference"),
        rows=tuple(
            (
                class_name(name),
                scale.figure(median.get(name, 0)),
                scale.figure(slowest.get(name, 0)),
                signed(scale, steps.slower_ns.get(name, 0)),
            )
            for name in CLASSES
            if median.get(name) or slowest.get(name)
        ),
        words=frozenset({"class"}),
    )
    view = View(labels=tuple(class_name(name) for name in names), parts=parts)
    notes = (f"{_called(steps.slowest)} against {_called(steps.median)}: longer to the right, shorter to the left",)
    return (bars(title, Axis(name="class", scale=scale, mode="relative"), [view], table=table, notes=notes),)


def _called(step: StepOfRank) -> str:
    return f"step {step.step} of rank {step.rank}"


def _partition(result: Result, wanted: StepOfRank) -> dict[str, int]:
    steps = (step for rank in result.ranks if rank.rank == wanted.rank for step in _full(rank))
    return next(step.partition_ns for step in steps if (step.step, step.wall_ns) == (wanted.step, wanted.wall_ns))
