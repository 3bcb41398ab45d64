"""By how many places two ranks' sequences of the same collectives are shifted: windows may begin anywhere.

What decides, in this order: that kind and size agree at every place; that the ranks end together, as they do only in
the same collective; that the places are of the same step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.collectives import UNKNOWN

_NEAR = 8
_MOST_WITHOUT_STEPS = 4096
_LEAST_OVERLAP = 0.5
_CLEARLY, _FEWEST = 0.25, 4
_AGAINST_STEPS, _FEWEST_AGAINST_STEPS = 0.02, 8
_SURELY_TOGETHER_NS = 1000.0
_MOST_DRIFT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """One rank's calls in one group in their order: what identifies each (`signature`), its step, and when it ended."""

    signature: Int64s
    step: Int64s
    end_ns: Int64s

    def __len__(self) -> int:
        return len(self.signature)


@dataclass(frozen=True, slots=True)
class _Candidate:
    shift: int
    overlap: int
    mismatches: float
    spread_ns: float


def find_shift(reference: Sequence, other: Sequence, *, same_clock: bool = False) -> int:
    """d such that call i of `other` is call i + d of `reference`. With `same_clock` their times can be compared."""
    by_steps, is_sure = _shifts_of_steps(reference, other)
    possible = sorted(_possible(reference, other, by_steps))
    candidates = [_judged(reference, other, shift, same_clock=same_clock) for shift in possible]
    least = min(candidate.mismatches for candidate in candidates)
    agreeing = [candidate for candidate in candidates if candidate.mismatches == least]
    usual = by_steps[0] if by_steps else 0
    expected = min(agreeing, key=lambda candidate: abs(candidate.shift - usual))
    together = min(agreeing, key=lambda candidate: candidate.spread_ns)
    clearly, fewest = (_AGAINST_STEPS, _FEWEST_AGAINST_STEPS) if is_sure else (_CLEARLY, _FEWEST)
    is_clear = together.spread_ns < clearly * expected.spread_ns and together.overlap >= fewest
    return together.shift if is_clear and expected.spread_ns > _SURELY_TOGETHER_NS else expected.shift


def _shifts_of_steps(reference: Sequence, other: Sequence) -> tuple[list[int], bool]:
    """By how much the beginnings of the steps that both have are shifted, the most frequent first, and whether most of
    several steps say that one."""
    theirs, their_first = np.unique(reference.step, return_index=True)
    ours, our_first = np.unique(other.step, return_index=True)
    common, at_theirs, at_ours = np.intersect1d(theirs, ours, return_indices=True)
    shifts = (their_first[at_theirs] - our_first[at_ours])[common != UNKNOWN]
    values, counts = np.unique(shifts, return_counts=True)
    is_sure = bool(counts.max(initial=0) >= 2 and 2 * counts.max(initial=0) > counts.sum())
    return [int(shift) for shift in values[np.argsort(-counts, kind="stable")]], is_sure


def _possible(reference: Sequence, other: Sequence, by_steps: Iterable[int]) -> set[int]:
    anchors = {*by_steps, 0, len(reference) - len(other)}
    near = {anchor + offset for anchor in anchors for offset in range(-_NEAR, _NEAR + 1)}
    if not by_steps and len(reference) <= _MOST_WITHOUT_STEPS and len(other) <= _MOST_WITHOUT_STEPS:
        near |= set(range(1 - len(other), len(reference)))
    least = _LEAST_OVERLAP * min(len(reference), len(other))
    told = {shift for shift in by_steps if _overlap(reference, other, shift) >= 1}  # however short what they share
    return told | {shift for shift in near if _overlap(reference, other, shift) >= max(1, least)} or {0}


def _overlap(reference: Sequence, other: Sequence, shift: int) -> int:
    return min(len(reference), len(other) + shift) - max(0, shift)


def _judged(reference: Sequence, other: Sequence, shift: int, *, same_clock: bool) -> _Candidate:
    begin, count = max(0, shift), _overlap(reference, other, shift)
    theirs, ours = slice(begin, begin + count), slice(begin - shift, begin - shift + count)
    mismatches = float((reference.signature[theirs] != other.signature[ours]).mean()) if count > 0 else 1.0
    spread_ns = _apart_ns if same_clock else _spread_ns
    return _Candidate(shift, count, mismatches, spread_ns(reference.end_ns[theirs], other.end_ns[ours]))


def _apart_ns(reference_ns: Int64s, other_ns: Int64s) -> float:
    """How far the ends are apart, in the median; infinite where there are none."""
    return float(np.median(np.abs(reference_ns - other_ns))) if len(reference_ns) else np.inf


def _spread_ns(reference_ns: Int64s, other_ns: Int64s) -> float:
    """How far from one offset and one drift the differences of two ranks' ends are, in the median; infinite where they
    are too few to tell."""
    if len(reference_ns) < _FEWEST:
        return np.inf
    times = (reference_ns - reference_ns[0]).astype(np.float64)
    apart = ((other_ns - other_ns[0]) - (reference_ns - reference_ns[0])).astype(np.float64)
    apart -= np.median(apart)
    kept = np.abs(apart) <= 5 * np.median(np.abs(apart))
    centred = times - times[kept].mean()
    slope = (centred[kept] @ apart[kept]) / max(centred[kept] @ centred[kept], 1.0)
    apart -= np.clip(slope, -_MOST_DRIFT, _MOST_DRIFT) * centred
    return float(np.median(np.abs(apart - np.median(apart))))
