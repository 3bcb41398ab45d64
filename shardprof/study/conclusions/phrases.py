"""Figures as the sentences of a study write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardprof.study.conclusions.study_report import Estimate
from shardprof.words import enumeration, milliseconds

_LEAST_IN_TIMES = 2.0
_LEAST_PERCENT = 0.1
_BITS = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"))


def time(time_ns: float) -> str:
    """A time: "0.994 ms", "12.3 ms", "25.7 s"."""
    return f"{time_ns / 1e9:,.3g} s" if abs(time_ns) >= 1e10 else milliseconds(time_ns)


def signed_time(time_ns: float) -> str:
    """A change of a time: "+12.3 ms"."""
    return ("" if time_ns < 0 else "+") + time(time_ns)


def bandwidth(bytes_per_s: float) -> str:
    """A network's bandwidth: "200 Mbit/s"."""
    bits_per_s = 8 * bytes_per_s
    factor, unit = next(((factor, unit) for factor, unit in _BITS if bits_per_s >= factor), (1.0, "bit/s"))
    digits = bits_per_s / factor
    return f"{digits:,.0f} {unit}" if digits >= 100 else f"{digits:.3g} {unit}"


def rate(value: float) -> str:
    """A figure in three digits at least: "9.53", "99.0", "1,340"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(value: float) -> str:
    """A ratio of two figures: "1.31"."""
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def percent(share: float) -> str:
    """A share of 1: "71 %", "0.4 %"; what is not quite nothing is not written as such."""
    shown = round(100 * share, 1) if abs(share) >= 0.001 else 100 * share
    if 0 < abs(shown) < _LEAST_PERCENT:
        return "<0.1 %"
    return f"{shown:.0f} %" if abs(shown) >= 10 or shown == 0 else f"{shown:.1f} %"


def between(estimate: Estimate, written: Callable[[float], str] = ratio) -> str:
    """Where an estimate lies: " (95 %: 1.12 to 1.25)"; "" where that is not known, or not seen in so few digits."""
    if estimate.low is None or estimate.high is None or written(estimate.low) == written(estimate.high):
        return ""
    low, high = written(estimate.low), written(estimate.high)
    unit = " " + high.partition(" ")[2]
    return f" (95 %: {low.removesuffix(unit)} to {high})"


def longer(ratio_of_times: Estimate, other: str) -> str:
    """How much longer than another's a step is: "18 % longer than ddp (95 %: 12 to 25 %)", "2.31 times as long as ddp
    (95 %: ...)"."""
    if ratio_of_times.value >= _LEAST_IN_TIMES:
        return f"{ratio(ratio_of_times.value)} times as long as {other}{between(ratio_of_times)}"
    lies = between(ratio_of_times, lambda times: percent(times - 1))
    return f"{percent(ratio_of_times.value - 1)} longer than {other}{lies}"


def few(words: Sequence[str], most: int = 3) -> str:
    """The words, of very many the first: "a, b, c and 4 more"."""
    more = len(words) - most
    return enumeration([*words[:most], *([f"{more} more"] if more > 0 else [])])
