"""How reports name phases, and write shares and what may not have been measured."""

from __future__ import annotations

from shardprof.words import duration, size

PHASE_NAMES = {"data": "data loading", "forward": "forward", "backward": "backward", "optimizer": "the optimizer"}
"""The phases that are recorded of every step, in their order, as a sentence names them."""


def percent(share: float) -> str:
    """A share of 1 in whole percent; what is not quite nothing or everything is not written as such."""
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "<1 %"
    if whole == 100 and share < 1:
        return ">99 %"
    return f"{whole} %"


def duration_if_known(time_ns: float | None, unknown: str = "") -> str:
    """A time with its unit: "17.9 ms"."""
    return unknown if time_ns is None else duration(time_ns)


def size_if_known(size_bytes: float | None, unknown: str = "") -> str:
    """A size with its unit: "33.6 MB"."""
    return unknown if size_bytes is None else size(size_bytes)


def rate_if_known(gbps: float | None, unknown: str = "") -> str:
    """A bandwidth, given in 1e9 bytes a second: "25.1 GB/s"."""
    return unknown if gbps is None else f"{size(1e9 * gbps)}/s"
