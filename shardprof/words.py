"""How figures and names are written for people, wherever shardprof speaks to them: units named, nothing rounded to
a lie, nothing that steers a terminal.

Times are nanoseconds and sizes bytes on the way in; kB, MB, GB are powers of 1000, as in bandwidths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

_MOST_RUNS = 6
_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))


def printable(text: str) -> str:
    """The text with everything that a terminal would obey or not show (escape sequences, line breaks, marks that
    turn the direction of writing, broken characters) written as an escape: `\\x1b`."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def numbers(values: Iterable[int], most_runs: int | None = _MOST_RUNS) -> str:
    """Numbers with their runs drawn together: "1-4, 7"; of more runs than `most_runs` the first."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:most_runs]]
    return ", ".join(shown) + (", ..." if len(runs) > len(shown) else "")


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 step", "8 ranks"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def milliseconds(time_ns: float) -> str:
    """A time as three digits of milliseconds, or as whole ones: "0.994 ms", "12.3 ms", "25,700 ms"."""
    value = time_ns / 1e6
    return f"{value:,.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"


def enumeration(words: Sequence[str]) -> str:
    """The words as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def gibibytes(size_bytes: float) -> str:
    """A size of memory, in powers of 1024 as GPUs are sold: "39.6 GiB"."""
    value = size_bytes / 2**30
    return f"{value:,.0f} GiB" if value >= 100 else f"{value:.3g} GiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A unit and a number of decimals that a column of figures shares, so that their decimal points align."""

    unit: str
    divisor: float
    decimals: int

    def figure(self, value: float) -> str:
        """The figure without its unit; "<0.1" where it would read as zero and is not."""
        text = f"{value / self.divisor:,.{self.decimals}f}"
        if value > 0 and not text.strip("0."):
            return f"<{10.0**-self.decimals:.{self.decimals}f}"
        return text


def time_scale(times_ns: Iterable[float]) -> Scale:
    """The scale that gives the longest of the times three digits."""
    return _scale(_TIMES, times_ns)


def change_scale(times_ns: Iterable[float], changes_ns: Collection[float]) -> Scale:
    """The unit of the times, with decimals enough for the changes between them."""
    times, changes = time_scale(times_ns), time_scale(changes_ns)
    if not changes_ns:
        return times
    return replace(times, decimals=changes.decimals if changes.unit == times.unit else 2)


def size_scale(sizes_bytes: Iterable[float]) -> Scale:
    """The scale that gives the largest of the sizes three digits."""
    return _scale(_SIZES, sizes_bytes)


def duration(time_ns: float) -> str:
    """A time with its unit: "17.9 ms"."""
    return _alone(_TIMES, time_ns)


def size(size_bytes: float) -> str:
    """A size with its unit: "33.6 MB"."""
    return _alone(_SIZES, size_bytes)


def _alone(units: tuple[tuple[str, float], ...], value: float) -> str:
    scale = _scale(units, [value])
    return f"{scale.figure(value)} {scale.unit}"


def _scale(units: tuple[tuple[str, float], ...], values: Iterable[float]) -> Scale:
    largest = max((abs(value) for value in values), default=0.0)
    unit, divisor = next((u for u in reversed(units) if largest >= u[1]), units[0])
    digits = 0 if divisor == 1 or largest >= 100 * divisor else 1 if largest >= 10 * divisor else 2
    return Scale(unit=unit, divisor=divisor, decimals=digits)
