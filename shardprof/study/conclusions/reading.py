"""The figures of one trial in base units, nanoseconds and bytes, whatever unit its metric has."""

from __future__ import annotations

from collections.abc import Callable

from shardprof.analysis.result import sum_if_all_known
from shardprof.study.results import Figure, Trial

_NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_BYTES = {"B": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_BASE = _NANOSECONDS | _BYTES
Value = Callable[[Trial], float | None]

MEMORY = (
    ("gpu_mem_allocated_peak", "peak of allocated GPU memory"),
    ("gpu_mem_reserved_peak", "peak of reserved GPU memory"),
    ("cpu_rss", "resident memory of a rank's process"),
)
"""What stands for a cell's memory: the first of these that was measured of all cells."""


def base_figure(trial: Trial, name: str, part: str = "") -> float | None:
    """In nanoseconds or bytes where the figure's unit is a time or a size, else as it is; None where it is missing."""
    found = _figure(trial, name, part)
    if found is None or found.value is None:
        return None
    return found.value * _BASE.get(found.unit.split("/")[0], 1.0)


def step_ns(trial: Trial) -> float | None:
    """The median of the steps that count."""
    return base_figure(trial, "step_time", "p50")


def wire_bytes(trial: Trial) -> float | None:
    """What a rank sends in a step; in the mean over ranks, as its report has it."""
    return base_figure(trial, "wire_bytes")


def network_bytes(trial: Trial) -> float | None:
    """What a step sends over the network: of several nodes what a node sends to others, of one what a rank sends.

    Collectives run as rings: one over ranks of several nodes leaves each node once, with what each of its ranks sends.
    Rings beside each other, as those of hybrid sharding's replicas, leave it each.
    """
    report = trial.measurement.report
    if trial.cell.nodes == 1 or report is None:
        return wire_bytes(trial) if trial.cell.nodes == 1 else None
    crossing = [row.wire_bytes for row in report.collectives if row.nodes is None or row.nodes > 1]
    steps = max((sum(not step.empty for step in rank.steps) for rank in report.ranks), default=0)
    total = sum_if_all_known(crossing)
    return total / steps if total is not None and steps else None


def missing(trial: Trial, name: str, part: str = "") -> str:
    """Why a figure is not there."""
    found = _figure(trial, name, part)
    return "not measured" if found is None else found.missing


def key(figure: Figure) -> str:
    """A figure's name with its part."""
    return f"{figure.name} {figure.part}".strip()


def _figure(trial: Trial, name: str, part: str) -> Figure | None:
    return next((f for f in trial.measurement.figures if f.name == name and f.part == part), None)
