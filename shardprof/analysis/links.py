"""What a node's network links carried in a span of time, from the counters that its launcher sampled."""

from __future__ import annotations

from shardprof.trace.counters import Counters


def link_bytes(counters: Counters, begin_ns: int, end_ns: int, counter: str) -> dict[str, int] | None:
    """Bytes by interface between two instants, interpolated between samples of the cumulative `counter`.

    An interface whose samples do not reach around both instants is left out; None where that is all of them.
    """
    carried = {
        interface: series[counter].over_one(begin_ns, end_ns)
        for interface, series in counters.series.items()
        if counter in series
    }
    known = {interface: round(size) for interface, size in carried.items() if size is not None}
    return known or None
