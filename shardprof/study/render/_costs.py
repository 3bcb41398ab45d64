"""The sections on what cells cost: efficiency lost in scaling, memory, bytes on the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from shardprof.render._tables import SHORT_NAMES, Table
from shardprof.study.conclusions.phrases import percent
from shardprof.study.conclusions.study_report import CellFigures, Scaling, StudyReport
from shardprof.study.render._section import Section
from shardprof.study.render._speed import GROUPS
from shardprof.study.render._tables import (
    MISSING,
    ratio_words,
    size_words,
    table,
    title_of,
    with_interval,
)
from shardprof.words import enumeration, plural, size

_WORTH_A_WORD = 0.005
_LOST = {
    "compute": "slower compute", "communication": "exposed communication", "copies": "copies",
    "data_loading": "data loading", "launch_bound": "waiting for launches", "idle": "idleness",
}  # fmt: skip


def scaling(report: StudyReport) -> Section:
    """Scaling efficiency, and what is lost to what."""
    tables = tuple(
        (f"{kind} scaling: {means}", _scaling_table(report, rows))
        for kind, means in (("weak", "the same batch of a rank"), ("strong", "the same global batch"))
        if (rows := [row for row in report.scaling if row.kind == kind])
    )
    return Section(
        title="Scaling",
        lines=tuple(_lost_words(report.scaling)),
        tables=tables,
        legend={
            "base": "the fewest ranks of the configuration, with the batch of each",
            "efficiency": "ideal step time by the measured one, against the base",
            "captured": "the same of the mean captured steps; what it lacks to 100 % is lost to comm (exposed "
            "communication), data, idle, slower compute, ..., in percent of the step, and less than nothing is won",
        },
    )


def _lost_words(rows: Sequence[Scaling]) -> Iterator[str]:
    """What lost efficiency is lost to, of the cells that lose some; what they win elsewhere is no part of it."""
    losing = [{group: max(lost, 0.0) for group, lost in row.lost.items()} for row in rows if sum(row.lost.values()) > 0]
    if losing:
        shares = {group: median(lost.get(group, 0.0) / sum(lost.values()) for lost in losing) for group in _LOST}
        largest_first = sorted(shares.items(), key=lambda share: -share[1])
        told = [f"{percent(share)} to {_LOST[group]}" for group, share in largest_first if abs(share) >= _WORTH_A_WORD]
        yield f"Of the time that is lost, in the median of {plural(len(losing), 'cell')}, go {enumeration(told)}."


def _scaling_table(report: StudyReport, rows: Sequence[Scaling]) -> Table:
    groups = [group for group in GROUPS if any(row.lost.get(group) for row in rows)]
    shown = [
        (
            row.name,
            title_of(report, row.situation),
            f"{row.base_ranks} x {row.base_batch_size}",
            with_interval(row.efficiency, percent),
            MISSING if row.captured_efficiency is None else percent(row.captured_efficiency),
            *(percent(row.lost[group]) if group in row.lost else MISSING for group in groups),
        )
        for row in rows
    ]
    columns = ("configuration", "at", "base", "efficiency", "captured", *(SHORT_NAMES[group] for group in groups))
    return table(columns, shown, {"configuration", "at"}, [SHORT_NAMES[group] for group in reversed(groups)])


def memory_and_network(report: StudyReport) -> Section:
    """What each cell holds and sends, against formula and theory."""
    shown = [cell for cell in report.cells if cell.finished and cell.diverged_at is None]
    parts = list(dict.fromkeys(part for cell in shown for part in cell.states_bytes))
    memory_is = next((cell.memory_is for cell in shown if cell.memory_is), "")
    return Section(
        title="Memory and network",
        tables=tuple(
            (title_of(report, situation), _memory_table([cell for cell in shown if cell.situation == situation], parts))
            for situation in dict.fromkeys(cell.situation for cell in shown)
        ),
        notes=("model states are those of a rank, as its report has them",) * bool(parts),
        legend={
            "memory": memory_is,
            "sent": "by a rank in a step",
            "network": "what of that leaves its node, of several nodes; on one the same",
            "/expected": "by what the implementation is known to send",
            "/theory": "by what the strategy needs",
        },
    )


def _memory_table(cells: Sequence[CellFigures], parts: Sequence[str]) -> Table:
    rows = [
        (
            cell.name,
            with_interval(cell.memory_bytes, size),
            *(size_words(cell.states_bytes.get(part)) for part in parts),
            size_words(cell.wire_bytes.value if cell.wire_bytes else None),
            size_words(cell.network_bytes.value if cell.network_bytes else None),
            ratio_words(cell.per_expected),
            ratio_words(cell.per_theory),
        )
        for cell in cells
    ]
    columns = ("configuration", "memory", *parts, "sent", "network", "/expected", "/theory")
    return table(columns, rows, {"configuration"}, parts)
