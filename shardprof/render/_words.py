"""How classes and figures are written for people: units named, three significant digits, nothing rounded to a lie.

Times are nanoseconds and sizes bytes on the way in; kB, MB, GB are powers of 1000, as in bandwidths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))

_NAMES = {
    "p2p": "point-to-point",
    "other_comm": "other communication",
    "memcpy": "memory copies",
    "memset": "memory sets",
    "data_loading": "data loading",
}


PHASE_NAMES = {"data": "data loading", "forward": "forward", "backward": "backward", "optimizer": "the optimizer"}
"""The phases that are recorded of every step, in their order, as a sentence names them."""


def class_name(name: str) -> str:
    """The words for a class of the partition or for a group of classes: "all-gather", "data loading"."""
    return _NAMES.get(name, name.replace("_", "-"))


def enumeration(words: list[str]) -> str:
    """The words as a sentence lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def percent(share: float) -> str:
    """A share of 1 in whole percent; what is not quite nothing or everything is not written as such."""
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "<1 %"
    if whole == 100 and share < 1:
        return ">99 %"
    return f"{whole} %"


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
