"""What a step moves and a rank holds, beside what the strategy needs in theory."""

from __future__ import annotations

from shardprof.analysis.result import ModelState, Volume, Volumes
from shardprof.render._html.figures import Axis, Figure, Part, View, bars
from shardprof.render._html.page import Section, sentence
from shardprof.render._palette import EXPECTED, MEASURED, NEEDED
from shardprof.render._tables import Table
from shardprof.render._words import size_if_known
from shardprof.trace.classes import class_name
from shardprof.words import size_scale


def section(volumes: Volumes | None, words: tuple[str, ...]) -> Section:
    """The section, `words` being what is said of the volumes; empty where they are not known."""
    figures = [*_moved(volumes), *_held(volumes.model_states)] if volumes else []
    lines = tuple(map(sentence, words)) if figures else ()
    return Section(name="volumes", short="Volumes", title="Volumes against theory", lines=lines, figures=tuple(figures))


def _moved(volumes: Volumes) -> list[Figure]:
    told = (*volumes.kinds, volumes.total)
    rows = [row for row in told if row.theory_bytes or row.expected_bytes or row.measured_bytes]
    if not rows:
        return []
    parts = (
        Part(name="theory", look=NEEDED, values=tuple(row.theory_bytes for row in rows)),
        Part(name="expected", look=EXPECTED, values=tuple(row.expected_bytes for row in rows)),
        Part(name="measured", look=MEASURED, values=tuple(row.measured_bytes for row in rows)),
    )
    scale = size_scale(value for part in parts for value in part.values if value)
    view = View(labels=tuple(class_name(row.kind) for row in rows), parts=parts)
    notes = (
        "theory: what the strategy needs; expected: what its implementation is known to send as it is set; of one rank",
    )
    title, table = "Bytes that a rank sends in a step", _moved_table(rows)
    return [bars(title, Axis(name="kind", scale=scale, mode="group"), [view], table=table, notes=notes)]


def _moved_table(rows: list[Volume]) -> Table:
    return Table(
        columns=("kind", "theory", "expected", "measured", "of theory", "of expected"),
        rows=tuple(
            (
                class_name(row.kind),
                *(size_if_known(value) for value in (row.theory_bytes, row.expected_bytes, row.measured_bytes)),
                *(_ratio(value) for value in (row.measured_per_theory, row.measured_per_expected)),
            )
            for row in rows
        ),
        words=frozenset({"kind"}),
    )


def _held(states: tuple[ModelState, ...]) -> list[Figure]:
    known = [state for state in states if state.expected_bytes or state.measured_bytes]
    if not known:
        return []
    parts = (
        Part(name="expected", look=EXPECTED, values=tuple(state.expected_bytes for state in known)),
        Part(name="measured", look=MEASURED, values=tuple(state.measured_bytes for state in known)),
    )
    scale = size_scale(value for part in parts for value in part.values if value)
    view = View(labels=tuple(class_name(state.part) for state in known), parts=parts)
    table = Table(
        columns=("model states", "expected", "measured"),
        rows=tuple(
            (class_name(state.part), size_if_known(state.expected_bytes), size_if_known(state.measured_bytes))
            for state in known
        ),
        words=frozenset({"model states"}),
        notes=("measured: what the first rank held when its first step had ended; what is freed by then is not known",),
    )
    return [bars("Model states on a rank", Axis(name="part", scale=scale, mode="group"), [view], table=table)]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
