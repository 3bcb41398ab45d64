"""How the clocks of ranks relate: all ranks leave a collective together, so its ends on their clocks are one instant.

Offset and drift of each clock and the instant of each collective are fitted in turn, by least squares in which an end
that is far off counts less (Huber's weights), until they no longer change. Ranks of one node share its clock. Where
only sends and receives tie a clock to the others their ends take part too: what they are apart is about the same in
both directions, and cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.classes import COMM_KINDS
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.events import Mask

Float64s = npt.NDArray[np.float64]

_TOGETHER = [COMM_KINDS.index(kind) for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")]
"""Kinds that no rank leaves before all have come."""

_P2P = [COMM_KINDS.index("p2p")]

_MOST_PER_GROUP = 400
_ROUNDS = 200
_STILL_NS = 0.01
_HUBER = 2.0
_MAD_TO_DEVIATION = 1.4826
_USUAL_DRIFT = 50e-6
"""Quartz clocks are off by some tens of parts per million."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Ends of collectives, relative to t0, by clock and instance, both counted from 0."""

    clock: Int64s
    instance: Int64s
    time_ns: Float64s


def align(calls: Calls, instance: Int64s) -> tuple[RankClock, ...]:
    """The clock of every rank that has calls."""
    ranks = np.unique(calls.rank)
    if not len(ranks):
        return ()
    clock_of_rank = _clocks(ranks.tolist(), calls.clocks)
    clock, clocks = clock_of_rank[np.searchsorted(ranks, calls.rank)], len(np.unique(clock_of_rank))
    rows = _usable(calls, instance, _TOGETHER)
    t0_ns = int(np.median(calls.end_ns[rows] if len(rows) else calls.end_ns))
    ends = _ends(calls, instance, rows, clock, t0_ns)
    is_tied = np.isfinite(_first_guess(ends, clocks))
    if not is_tied.all():
        pairs = _usable(calls, instance, _P2P)
        loose = np.isin(instance[pairs], instance[pairs[~is_tied[clock[pairs]]]])
        rows = np.sort(np.concatenate((rows, pairs[loose])))
        ends = _ends(calls, instance, rows, clock, t0_ns)
    offset, drift = _fit(ends, clocks)
    residual = _residual(ends, offset, drift)
    told = []
    for i, rank in enumerate(ranks.tolist()):
        own = residual[calls.rank[rows] == rank]
        own_offset, own_drift = offset[clock_of_rank[i]], drift[clock_of_rank[i]]
        is_known = bool(np.isfinite(own_offset))
        told.append(
            RankClock(
                rank=rank,
                offset_ns=round(float(own_offset)) if is_known else None,
                drift_ppm=float(own_drift) * 1e6 if is_known else None,
                t0_ns=t0_ns,
                residual_ns=round(_typical(own)) if is_known and len(own) else None,
            )
        )
    return tuple(told)


def by_part(clocks: Sequence[RankClock], calls: Calls, instance: Int64s) -> tuple[RankClock, ...]:
    """The same clocks, those that nothing ties to the reference relative to the lowest rank that they are tied to:
    times of ranks that meet can then be compared."""
    known = [clock for clock in clocks if clock.offset_ns is not None]
    apart = [clock.rank for clock in clocks if clock.offset_ns is None]
    while apart:
        rows = np.isin(calls.rank, apart)
        part = align(calls.where(rows), instance[rows])
        known += [clock for clock in part if clock.offset_ns is not None]
        apart = [clock.rank for clock in part if clock.offset_ns is None]
    return tuple(known)


def as_recorded(clocks: Sequence[RankClock], calls: Calls, instance: Int64s) -> tuple[RankClock, ...]:
    """Clocks that are taken to agree, as where NTP sees to it: without offsets, and how far ends are apart then."""
    rows = _usable(calls, instance, _TOGETHER)
    zeros = np.zeros(1)
    t0_ns = clocks[0].t0_ns if clocks else 0
    ends = _ends(calls, instance, rows, np.zeros(len(calls), dtype=np.int64), t0_ns)
    residual = _residual(ends, zeros, zeros)
    return tuple(
        RankClock(
            rank=clock.rank,
            offset_ns=0,
            drift_ppm=0.0,
            t0_ns=t0_ns,
            residual_ns=round(_typical(residual[calls.rank[rows] == clock.rank])),
        )
        for clock in clocks
    )


def on_reference(clocks: Sequence[RankClock], ranks: Int64s, times_ns: Int64s) -> Int64s:
    """Times of ranks in the time of what their clocks are relative to; those of ranks whose clock is not known stay."""
    known = [clock for clock in clocks if clock.offset_ns is not None]
    if not known or not len(times_ns):
        return times_ns
    numbers = np.array([clock.rank for clock in known])
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], ranks), len(known) - 1)
    is_known = numbers[order][at] == ranks
    offset = np.array([clock.offset_ns for clock in known], dtype=np.int64)[order][at]
    drift = np.array([clock.drift_ppm for clock in known], dtype=np.float64)[order][at] * 1e-6
    t0_ns = np.array([clock.t0_ns for clock in known], dtype=np.int64)[order][at]
    since = (times_ns - t0_ns).astype(np.float64)
    correction = offset + np.rint(drift * since).astype(np.int64)
    return times_ns - np.where(is_known, correction, 0)


def _clocks(ranks: Sequence[int], known: dict[int, str]) -> Int64s:
    """Which clock each rank has: that of its machine, else its own. The first is the reference."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(known.get(rank, rank), len(numbers)) for rank in ranks], dtype=np.int64)


def _ends(calls: Calls, instance: Int64s, rows: Int64s, clock: Int64s, t0_ns: int) -> _Ends:
    """The ends of some rows; `clock` is that of every row."""
    _, dense = np.unique(instance[rows], return_inverse=True)
    time_ns = (calls.end_ns[rows] - t0_ns).astype(np.float64)
    return _Ends(clock[rows], dense.reshape(-1).astype(np.int64), time_ns)


def _usable(calls: Calls, instance: Int64s, kinds: Sequence[int]) -> Int64s:
    """Rows of these kinds that several ranks end together; of a group that has very many, some from all over."""
    rows = np.flatnonzero((instance != UNKNOWN) & np.isin(calls.kind, kinds))
    if not len(rows):
        return rows
    shared = np.bincount(instance[rows])[instance[rows]] > 1
    rows = rows[shared]
    kept = [_some(instance, rows[calls.group[rows] == group]) for group in np.unique(calls.group[rows])]
    return np.sort(np.concatenate(kept)) if kept else rows


def _some(instance: Int64s, rows: Int64s) -> Int64s:
    instances = np.unique(instance[rows])
    chosen = instances[:: -(-len(instances) // _MOST_PER_GROUP)]
    return rows[np.isin(instance[rows], chosen)]


def _fit(ends: _Ends, clocks: int) -> tuple[Float64s, Float64s]:
    """Offset and drift of each clock relative to the first one, NaN and 0 for clocks that nothing ties to it.

    First offsets alone, by which outliers are told, then drifts too.
    """
    offset, drift = _first_guess(ends, clocks), np.zeros(clocks)
    ends = _of_clocks(ends, np.isfinite(offset))
    for expected_drift in (0.0, _USUAL_DRIFT) if len(ends.time_ns) else ():
        offset, drift = _settled(ends, offset, drift, expected_drift)
    return offset, drift


def _settled(ends: _Ends, offset: Float64s, drift: Float64s, expected_drift: float) -> tuple[Float64s, Float64s]:
    """Lines and instants fitted in turn until nothing moves."""
    for _ in range(_ROUNDS):
        before = offset
        residual = _residual(ends, offset, drift)
        noise_ns = max(_typical(residual), 1.0)
        weight = 1 / np.maximum(1.0, np.abs(residual) / (_HUBER * noise_ns))
        least_spread = (noise_ns / expected_drift) ** 2 if expected_drift else np.inf
        offset, drift = _lines(ends, _instants(ends, offset, drift, weight), weight, offset, least_spread)
        offset, drift = _relative_to_first(offset, drift)
        if np.nanmax(np.abs(offset - before)) < _STILL_NS:
            break
    return offset, drift


def _of_clocks(ends: _Ends, wanted: Mask) -> _Ends:
    rows = wanted[ends.clock]
    return _Ends(ends.clock[rows], ends.instance[rows], ends.time_ns[rows])


def _first_guess(ends: _Ends, clocks: int) -> Float64s:
    """Each clock's median distance from a clock that is known already, from the first clock on."""
    offset = np.full(clocks, np.nan)
    offset[0] = 0.0
    known, size = 0, 1
    while size > known:
        known = size
        corrected = ends.time_ns - offset[ends.clock]
        is_known = np.isfinite(corrected)
        instant = np.full(int(ends.instance.max(initial=-1)) + 1, np.nan)
        instant[ends.instance[is_known]] = corrected[is_known]
        apart = ends.time_ns - instant[ends.instance]
        for clock in np.unique(ends.clock[np.isfinite(apart) & ~is_known]).tolist():
            offset[clock] = np.nanmedian(apart[ends.clock == clock])
        size = int(np.isfinite(offset).sum())
    return offset


def _residual(ends: _Ends, offset: Float64s, drift: Float64s) -> Float64s:
    """How far each end is from the mean of its collective's ends, in reference time."""
    apart = ends.time_ns * (1 - drift[ends.clock]) - offset[ends.clock]
    count = np.bincount(ends.instance)
    return apart - (np.bincount(ends.instance, apart) / np.maximum(count, 1))[ends.instance]


def _instants(ends: _Ends, offset: Float64s, drift: Float64s, weight: Float64s) -> Float64s:
    """When each collective ended, in reference time."""
    apart = ends.time_ns * (1 - drift[ends.clock]) - offset[ends.clock]
    return np.bincount(ends.instance, weight * apart) / np.bincount(ends.instance, weight)


def _lines(
    ends: _Ends, instant: Float64s, weight: Float64s, offset: Float64s, least_spread: float
) -> tuple[Float64s, Float64s]:
    """For each clock the line that best tells how far it is from the instants; where nothing tells it stays. Of a
    drift the ends have to tell by their spread in time: with less than `least_spread` most of it is taken for noise
    (ridge regression, with the drift that clocks usually have as what is expected)."""
    apart = ends.time_ns - instant[ends.instance]
    total = np.bincount(ends.clock, weight, minlength=len(offset))
    present = total > 0
    total[~present] = 1.0
    mean_time = _sums(ends, weight * ends.time_ns, offset) / total
    mean_apart = _sums(ends, weight * apart, offset) / total
    centred = ends.time_ns - mean_time[ends.clock]
    slope = _sums(ends, weight * centred * apart, offset) / (_sums(ends, weight * centred**2, offset) + least_spread)
    return np.where(present, mean_apart - slope * mean_time, offset), np.where(present, slope, 0.0)


def _sums(ends: _Ends, values: Float64s, clocks: Float64s) -> Float64s:
    """Of each clock the sum of its ends' values."""
    return np.bincount(ends.clock, values, minlength=len(clocks)).astype(np.float64)


def _relative_to_first(offset: Float64s, drift: Float64s) -> tuple[Float64s, Float64s]:
    """The same lines with the first clock as the reference."""
    rate = 1 - drift[0]
    return (offset - offset[0]) / rate, 1 - (1 - drift) / rate


def _typical(values: Float64s) -> float:
    """The deviation of values around 0, from their median size, which outliers do not move."""
    return _MAD_TO_DEVIATION * float(np.median(np.abs(values))) if len(values) else 0.0
