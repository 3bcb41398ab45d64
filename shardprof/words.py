"""How counts and lists of numbers are written for people, wherever shardprof speaks to them."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_RUNS = 6


def numbers(values: Iterable[int]) -> str:
    """Numbers with their runs drawn together: "1-4, 7"; of very many runs the first."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_MOST_RUNS]]
    return ", ".join(shown) + (", ..." if len(runs) > _MOST_RUNS else "")


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 step", "8 ranks"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def milliseconds(time_ns: float) -> str:
    """A time as three digits of milliseconds, or as whole ones: "0.994 ms", "12.3 ms", "25,700 ms"."""
    value = time_ns / 1e6
    return f"{value:,.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"
