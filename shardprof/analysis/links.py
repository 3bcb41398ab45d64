"""What a node's network links carried in a span of time, from the counters that its launcher sampled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from shardprof.trace.schema import CounterRecord

_Samples = list[tuple[int, float]]


def link_bytes(counters: Iterable[CounterRecord], begin_ns: int, end_ns: int, counter: str) -> dict[str, int] | None:
    """Bytes by interface between two instants, interpolated between samples of the cumulative `counter`.

    None where the samples do not reach around both instants.
    """
    samples: dict[str, _Samples] = defaultdict(list)
    for record in counters:
        for subject, values in record.values.items():
            if counter in values:
                samples[subject].append((record.time_ns, values[counter]))
    carried: dict[str, int] = {}
    for interface, series in samples.items():
        before, after = _at(series, begin_ns), _at(series, end_ns)
        if before is None or after is None:
            return None
        carried[interface] = round(after - before)
    return carried or None


def _at(series: _Samples, time_ns: int) -> float | None:
    for (earlier_ns, earlier), (later_ns, later) in pairwise(series):
        if earlier_ns <= time_ns <= later_ns:
            share = (time_ns - earlier_ns) / max(later_ns - earlier_ns, 1)
            return earlier + share * (later - earlier)
    return None
