"""The figures of each cell over its repeats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.mean_step import mean_step
from shardprof.study.conclusions.reading import MEMORY, Value, base_figure, key, missing, network_bytes, wire_bytes
from shardprof.study.conclusions.statistics import by, counted, repeated
from shardprof.study.conclusions.step_times import StepTimes
from shardprof.study.conclusions.study_report import CellFigures


def memory_name(cells: Sequence[CellTrials]) -> tuple[str, str]:
    """The figure that stands for the memory of all cells that finished, and what it is; "" where there is none."""
    done = [cell for cell in cells if cell.finished]
    found = (entry for entry in MEMORY if done and all(cell.values(_of(entry[0])) for cell in done))
    return next(found, ("", ""))


def memory_of(cell: CellTrials, name: str) -> dict[tuple[str, int], float]:
    """The memory of each finished trial, in bytes."""
    return cell.values(_of(name)) if name else {}


def figures_of(cell: CellTrials, times: StepTimes, memory: tuple[str, str]) -> CellFigures:
    """All figures of a cell."""
    step = times.estimate if cell.diverged_at is None else None
    whole = mean_step(cell)
    return CellFigures(
        cell_id=cell.cell_id,
        name=cell.name,
        strategy=cell.cell.strategy,
        knobs=cell.cell.knobs,
        situation=cell.situation,
        trials=len(cell.trials),
        finished=len(cell.finished),
        diverged_at=cell.diverged_at,
        step_ns=step,
        samples_per_s=by(1e9 * cell.cell.global_batch, step) if step else None,
        memory_bytes=repeated(list(memory_of(cell, memory[0]).values())),
        memory_is=memory[1],
        states_bytes=_states(cell),
        mean_step=whole,
        wire_bytes=counted(repeated(list(cell.values(wire_bytes).values()))),
        network_bytes=counted(repeated(list(cell.values(network_bytes).values()))),
        per_expected=_middle(cell, "volume_ratio", "per_expected"),
        per_theory=_middle(cell, "volume_ratio", "per_theory"),
        exposed_ns=_middle(cell, "exposed_comm"),
        data_wait_ns=_middle(cell, "data_wait"),
        figures=_all_figures(cell),
        missing=_missing(cell),
    )


def _of(name: str) -> Value:
    return lambda trial: base_figure(trial, name)


def _middle(cell: CellTrials, name: str, part: str = "") -> float | None:
    values = cell.values(lambda trial: base_figure(trial, name, part)).values()
    return median(values) if values else None


def _states(cell: CellTrials) -> dict[str, int]:
    """Model states of a rank by part, as measured, else by formula; of the first trial whose report has them."""
    for trial in cell.finished.values():
        report = trial.measurement.report
        if report and report.volumes:
            rows = report.volumes.model_states
            sizes = {row.part: row.expected_bytes if row.measured_bytes is None else row.measured_bytes for row in rows}
            return {part: held for part, held in sizes.items() if held is not None}
    return {}


def _all_figures(cell: CellTrials) -> dict[str, tuple[float, str]]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in cell.finished.values():
        for figure in trial.measurement.figures:
            if figure.value is not None:
                values[key(figure), figure.unit].append(figure.value)
    return {name: (median(numbers), unit) for (name, unit), numbers in values.items()}


def _missing(cell: CellTrials) -> dict[str, str]:
    """Why a figure that no finished trial has is not there."""
    reasons = {
        key(figure): missing(trial, figure.name, figure.part)
        for trial in cell.finished.values()
        for figure in trial.measurement.figures
        if figure.value is None
    }
    return {name: reason for name, reason in reasons.items() if name not in _all_figures(cell)}
