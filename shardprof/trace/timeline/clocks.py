"""Clocks that nothing ties to one another, near enough for one timeline: no viewer holds nanoseconds of decades."""

from __future__ import annotations

from collections.abc import Mapping

from shardprof.trace.across.clock_of_rank import RankClock

_FAR_NS = 24 * 3600 * 10**9


def brought_near(tied: Mapping[int, RankClock], begins_ns: Mapping[int, int]) -> tuple[dict[int, RankClock], list[int]]:
    """The clocks, where those of ranks that begin more than a day away from the first rank are shifted so that they
    begin with it, such ranks that are near each other alike; and which ranks these are. `begins_ns` is when each rank
    begins on its own clock."""
    clocks, apart = dict(tied), []
    anchors: list[tuple[int, int]] = []
    for rank, begin_ns in sorted(begins_ns.items()):
        clock = tied.get(rank)
        on_reference_ns = clock.on_reference(begin_ns) if clock else begin_ns
        near = (shift_ns for anchor_ns, shift_ns in anchors if abs(on_reference_ns - anchor_ns) < _FAR_NS)
        shift_ns = next(near, None)
        if shift_ns is None:
            shift_ns = on_reference_ns - anchors[0][0] if anchors else 0
            anchors.append((on_reference_ns, shift_ns))
        if shift_ns:
            clocks[rank] = _shifted(clock, rank, shift_ns)
            apart.append(rank)
    return clocks, apart


def _shifted(clock: RankClock | None, rank: int, shift_ns: int) -> RankClock:
    if clock is None or clock.offset_ns is None:
        return RankClock(rank=rank, offset_ns=shift_ns, drift_ppm=0.0, t0_ns=0, residual_ns=None)
    return RankClock(
        rank=rank, offset_ns=clock.offset_ns + shift_ns, drift_ppm=clock.drift_ppm, t0_ns=clock.t0_ns, residual_ns=None
    )
