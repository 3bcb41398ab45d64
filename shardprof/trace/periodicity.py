"""Which cycle a sequence of work repeats: the steps of a training that nobody marked.

A model's layers repeat inside a step (A B B B C | A B B B C | ...), so that the shortest thing that repeats is no
step. A step is the cycle after which everything comes again, what happens once in it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s, Intervals
from shardprof.trace.device_names import copy_kind
from shardprof.trace.events import Mask
from shardprof.trace.repetition import Cut, Pairs, cut, pairs_of, places_to_cut
from shardprof.trace.work import Work

# foreach operators and single-tensor Adam name no optimizer; FSDP copies parameters with the same machinery.
_OPTIMIZER = re.compile(r"^(?!.*copy).*(?:multi_tensor_apply|_foreach_|addcdiv|adam|adagrad|lamb_|sgd)", re.IGNORECASE)

# In the traces with marks that these limits were chosen on, steps are 1.00 alike and all familiar; what comes nearest
# is 0.67 of both, a single pass whose 24 layers repeat.
_FAMILIAR = 0.9
"""At least this share of what happens is part of the cycle."""
_AS_GOOD = 0.8
"""Of cycles as good as the best the shortest is the step: what comes every tenth step, say a log, makes no step."""
_LEAST_WORK = 10
"""A cycle of fewer pieces of work is no step."""
_SEAM = 4
"""Pieces of work on each side by which the place between two cycles is known again."""
LEAST_CONFIDENCE = 0.5
"""Up to it a cycle is rather chance than a step. Two cycles never exceed it: any two halves may be alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """The complete cycles in order of time, shape (cycles, 2), and how sure it is that they are steps, 0 to 1."""

    windows: Intervals
    confidence: float


def find_cycles(work: Work, names: tuple[str, ...], trace_begin_ns: int) -> Cycles | None:
    """The cycles that the work repeats, None where it repeats none with confidence; n log n in the work.

    A cycle ends with the trace, if that holds whole cycles; else with the last kernel of the optimizer; else before a
    copy to the device (the next batch); else anywhere. Of several such places it is the one with the longest wait for
    the next piece of work, by the median. What is cut off at the ends of the trace is no cycle.
    Confidence is the product of: how alike neighbouring cycles are (the mean, over the distinct pairs of neighbouring
    pieces of work, of the share that the next cycle has too); how even their lengths are (`evenness`); and
    1 - 2 ** (1 - cycles), as every further cycle halves the odds of chance.
    """
    if len(work) < 3 * _LEAST_WORK:
        return None
    pairs = pairs_of(work.name)
    optimizer, to_device = _named(_OPTIMIZER.search, work, names), _named(_is_to_device, work, names)
    steps_end = np.flatnonzero(optimizer[:-1] & ~optimizer[1:])
    best = _best_cut(pairs, steps_end)
    if best is None:
        return None
    placed = _whole_cycles(work, pairs, best) or _after_optimizer(pairs, best, steps_end)
    if placed is None:
        possible_ends = [pairs.among(steps_end), pairs.among(~to_device[:-1] & to_device[1:])]
        placed = _before_waiting(work, pairs, best, possible_ends)
    return _cycles(placed, work, trace_begin_ns)


def evenness(windows: Intervals) -> float:
    """How even the lengths of windows are: 1 - median deviation / median, at least 0. One long step changes little."""
    lengths = windows[:, 1] - windows[:, 0]
    typical = float(np.median(lengths))
    return max(0.0, 1 - float(np.median(np.abs(lengths - typical))) / typical) if typical > 0 else 0.0


def _named(matches: Callable[[str], object], work: Work, names: tuple[str, ...]) -> Mask:
    """Which pieces of work have a name that `matches` accepts."""
    found: Mask = np.array([bool(matches(name)) for name in names], dtype=np.bool_)[work.name]
    return found


def _is_to_device(name: str) -> bool:
    return copy_kind(name) == "HtoD"


def _best_cut(pairs: Pairs, steps_end: Int64s) -> Cut | None:
    """Where optimizers are known, pieces without one are micro-batches of a step."""
    places = places_to_cut(pairs)
    cuts = [cut(pairs, after) for after in [after for after in places if _held(after, steps_end).all()] or places]
    best_merit = max((tried.alike * tried.familiar for tried in cuts), default=0.0)
    as_good = [tried for tried in cuts if tried.alike * tried.familiar >= _AS_GOOD * best_merit]
    return max(as_good, key=lambda tried: int(tried.complete.sum()), default=None)


def _held(after: Int64s, places: Int64s) -> Int64s:
    """How many of the places each piece between two cuts holds."""
    return np.diff(np.searchsorted(places, after, side="right"))


def _whole_cycles(work: Work, pairs: Pairs, found: Cut) -> Cut | None:
    """The same cycles, if the trace holds whole ones: its end followed by its beginning is what stands between them."""
    seam = np.concatenate((work.name[-_SEAM:], work.name[:_SEAM]))
    around = np.lib.stride_tricks.sliding_window_view(work.name, len(seam))
    after = np.flatnonzero((around == seam).all(axis=1)) + _SEAM - 1
    if abs(len(after) - len(found.after)) > 1 or len(after) < 2:
        return None
    whole = cut(pairs, after)
    return whole if whole.complete.all() else None


def _after_optimizer(pairs: Pairs, found: Cut, steps_end: Int64s) -> Cut | None:
    """The same cycles, if in each there is one place where an optimizer is done, whatever comes after it."""
    return cut(pairs, steps_end) if len(steps_end) > 1 and (_held(found.after, steps_end) == 1).all() else None


def _before_waiting(work: Work, pairs: Pairs, found: Cut, possible_ends: list[Mask]) -> Cut:
    """The same cycles, cut at a possible end where the wait for the next piece of work is usually the longest."""
    idle_ns = work.begin_ns[1:] - work.end_ns[:-1]
    once = found.once & (pairs.count > 1)
    ends = next((once & possible for possible in possible_ends if (once & possible).any()), once)
    best_ns, after = -np.inf, found.after
    for number in np.unique(pairs.count[ends]).tolist():
        occurrences = pairs.occurrences(np.flatnonzero(ends & (pairs.count == number)))
        typical_ns = np.median(idle_ns[occurrences], axis=1)
        if typical_ns.max() > best_ns:
            best_ns, after = float(typical_ns.max()), occurrences[typical_ns.argmax()]
    return cut(pairs, after)


def _cycles(found: Cut, work: Work, trace_begin_ns: int) -> Cycles | None:
    ends = np.append(work.end_ns[found.after], work.end_ns[-1])
    windows = np.stack((np.concatenate(([trace_begin_ns], ends[:-1])), ends), axis=1)[found.complete]
    confidence = found.alike * evenness(windows) * (1 - 2.0 ** (1 - len(windows)))
    too_short = len(work) < _LEAST_WORK * len(found.complete)
    if too_short or found.familiar < _FAMILIAR or confidence <= LEAST_CONFIDENCE:
        return None
    return Cycles(windows=windows, confidence=confidence)
