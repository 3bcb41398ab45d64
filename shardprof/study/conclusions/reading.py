"""The figures of one trial in base units, nanoseconds and bytes, whatever unit its metric has."""

from __future__ import annotations

from collections.abc import Callable

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


def missing(trial: Trial, name: str, part: str = "") -> str:
    """Why a figure is not there."""
    found = _figure(trial, name, part)
    return "not measured" if found is None else found.missing


def key(figure: Figure) -> str:
    """A figure's name with its part."""
    return f"{figure.name} {figure.part}".strip()


def _figure(trial: Trial, name: str, part: str) -> Figure | None:
    return next((f for f in trial.measurement.figures if f.name == name and f.part == part), None)
