"""The section on convergence: losses and accuracies against samples and time, and whether losses agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from shardprof.render._tables import Table
from shardprof.study.conclusions.groups import family
from shardprof.study.conclusions.phrases import percent, time
from shardprof.study.conclusions.study_report import AGREES, Agreement, Learning, StudyReport
from shardprof.study.render._section import Line, Lines, Section
from shardprof.study.render._tables import MISSING, table, title_of


def learning(report: StudyReport) -> Section:
    """Loss and accuracy against samples and time."""
    curves = report.learning
    target = next((one.target for one in curves if one.target is not None), None)
    found = "the target was reached" if target is None else f"an evaluation found {percent(target)} of images right"
    return Section(
        title="Convergence",
        lines=(*_agreement_lines(report), *_diverged_lines(report)),
        charts=tuple(_curves(curves)),
        tables=tuple(
            (title_of(report, situation), _learning_table([one for one in curves if one.situation == situation]))
            for situation in dict.fromkeys(one.situation for one in curves)
        ),
        notes=("medians over repeats",),
        legend={
            "loss": "the mean of the last 10 steps",
            _equal(curves): "that of the last 10 up to samples that all cells have seen",
            "accuracy": "at the last evaluation",
            "to target": f"until {found}",
            "samples": "until then",
        },
    )


def _diverged_lines(report: StudyReport) -> Iterator[str]:
    for one in report.learning:
        if one.diverged_at is not None:
            at = title_of(report, one.situation)
            yield f"The loss of {one.name}{f', {at},' if at else ''} is no number from step {one.diverged_at} on."


def _learning_table(curves: Sequence[Learning]) -> Table:
    is_equal = all(one.loss == one.loss_at_equal for one in curves)
    rows = [
        (
            one.name,
            MISSING if one.loss is None else f"{one.loss:.4g}",
            MISSING if one.loss_at_equal is None or is_equal else f"{one.loss_at_equal:.4g}",
            MISSING if one.accuracy is None else percent(one.accuracy),
            one.why_not or MISSING if one.seconds_to_target is None else time(1e9 * one.seconds_to_target),
            MISSING if one.samples_to_target is None else f"{one.samples_to_target:,.0f}",
        )
        for one in curves
    ]
    columns = ("configuration", "loss", _equal(curves), "accuracy", "to target", "samples")
    return table(columns, rows, {"configuration"}, ("samples",))


def _equal(curves: Sequence[Learning]) -> str:
    """The column of losses at samples that all cells have seen."""
    return f"at {curves[0].equal_samples:,}" if curves else ""


def _curves(learning: Sequence[Learning]) -> Iterator[Lines]:
    """Of one cell a configuration, the first in order: losses do not depend on the fabric."""
    first: dict[str, Learning] = {}
    for one in learning:
        first.setdefault(one.name, one)
    for y, of in (("loss", "losses"), ("accuracy", "accuracies")):
        for x, by in (("samples", "samples"), ("seconds", "seconds")):
            styles: dict[str, int] = defaultdict(int)
            lines = []
            for name, one in first.items():
                kind = family(name)
                points = tuple((float(getattr(p, by)), p.value, None, None) for p in getattr(one, of))
                if points:
                    lines.append(Line(label=name, family=kind, style=styles[kind], points=points))
                styles[kind] += 1
            if lines:
                yield Lines(title=f"{y.capitalize()} against {x}", x=x, y=y, lines=tuple(lines), log_y=y == "loss")


def _agreement_lines(report: StudyReport) -> Iterator[str]:
    rows = report.agreement
    if not rows:
        return
    worst = rows[0]
    agree = "agree" if worst.largest <= AGREES else "do not agree"
    first = f"over the first {worst.steps:,} steps" if worst.steps > 1 else "in the first step"
    yield (
        f"In fp32 losses {agree} within {AGREES:g}: {first} they differ by "
        f"{worst.largest:.2g} at most, relatively, {worst.name} from {worst.against} in step {worst.at_step}."
    )
    off = [row for row in rows if row.largest > AGREES]
    if off:
        yield f"Beyond it are {'; '.join(_agreement_words(row) for row in off)}."
    elif any(row.all_steps > row.steps for row in rows):
        yield _later(rows, max(row.all_steps for row in rows))


def _later(rows: Sequence[Agreement], steps: int) -> str:
    """Whether losses that agreed at first still do at the end."""
    parting = [(row.parts_at, row) for row in rows if row.parts_at is not None]
    if not parting:
        return f"They do over all {steps:,} steps."
    at, row = min(parting, key=lambda pair: pair[0])
    return (
        f"Later, rounding adds up: from step {at:,} of {steps:,} on losses are further apart than that, first those of "
        f"{row.name} and {row.against}; what was learned tells more there than single losses."
    )


def _agreement_words(row: Agreement) -> str:
    return f"{row.name} ({row.largest:.2g} to {row.against}, step {row.at_step})"
