"""What B is to A, in one sentence: how much longer its step is, what that consists of, what it moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardprof.analysis.comparing.comparison import Comparison, Interval, KindChange, PerStep
from shardprof.trace.classes import class_name
from shardprof.words import duration, enumeration, size

_MOST_CAUSES = 3
_WORTH_A_CAUSE = 0.1
_LEAST_IN_PERCENT, _MOST_IN_PERCENT = -0.9, 1.0
"""Between these a change reads well in percent, else as a ratio."""
_NO_CHANGE = Interval(low=0, high=0)


def verdict(comparison: Comparison) -> str:
    """What B is to A in one sentence, what its step's change consists of, and what it moves."""
    length = _length_clauses(comparison)
    if comparison.change is None:
        return f"{length or 'Nothing to compare'}: {_without_steps(comparison)} no captured step that holds work."
    clauses = [length, *_cause_clause(comparison)]
    moved = _moved_clause(comparison)
    return ": ".join(clauses) + (f"; it {moved}" if moved else "") + "."


def _without_steps(comparison: Comparison) -> str:
    missing = [name for name, side in (("A", comparison.a), ("B", comparison.b)) if side.median_ns is None]
    return f"{enumeration(missing)} {'have' if len(missing) > 1 else 'has'}"


def believed_change(comparison: Comparison) -> float | None:
    """How much longer B's step is: as recorded, where that is a change or another one than that of captured steps."""
    return comparison.recorded_change if _is_recorded_believed(comparison) else comparison.change


def _is_recorded_believed(comparison: Comparison) -> bool:
    recorded, captured = comparison.recorded_change_interval, comparison.change_interval
    return recorded is not None and (_apart(recorded, _NO_CHANGE) or bool(captured and _apart(recorded, captured)))


def _apart(one: Interval, other: Interval) -> bool:
    return one.high < other.low or other.high < one.low


def _length_clauses(comparison: Comparison) -> str:
    change, interval, recorded = comparison.change, comparison.change_interval, comparison.recorded_change
    if recorded is None or not _is_recorded_believed(comparison):
        return "" if change is None else _length_clause(change, interval)
    told = _length_clause(recorded, comparison.recorded_change_interval, " without the profiler")
    if change is None:
        return told
    return f"{told}, {signed_percent(change)}{_lies(interval, signed_percent)} in the captured steps"


def _length_clause(change: float, interval: Interval | None, when: str = "") -> str:
    in_times = not _LEAST_IN_PERCENT < change < _MOST_IN_PERCENT
    words = _times if in_times else signed_percent
    lies = _lies(interval, words)
    if interval and not _apart(interval, _NO_CHANGE):
        return f"B's step is as long as A's{when} as far as these steps tell, {words(change)}{lies}"
    if in_times:
        return f"B's step takes {_times(change)} times as long{when}{lies}"
    if change == 0:
        return f"B's step is as long as A's{when}{lies}"
    return f"B's step is {_one_percent(abs(change))} {'longer' if change > 0 else 'shorter'}{when}{lies}"


def _lies(interval: Interval | None, words: Callable[[float], str]) -> str:
    return f" (95 %: {words(interval.low)} to {words(interval.high)})" if interval else ""


def _times(change: float) -> str:
    return f"{change + 1:.3g}"


def _one_percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def signed_percent(change: float) -> str:
    """A relative change in percent: "+8.8 %"."""
    return f"{'-' if change < 0 else '+'}{_one_percent(abs(change))}"


def _cause_clause(comparison: Comparison) -> list[str]:
    moved_ns = sum(abs(part.change_ns) for part in comparison.waterfall)
    causes = [part for part in comparison.waterfall if abs(part.change_ns) >= _WORTH_A_CAUSE * moved_ns > 0]
    words = [f"{_signed_time(part.change_ns)} {class_name(part.name)}" for part in causes[:_MOST_CAUSES]]
    return [", ".join(words)] if words else []


def _signed_time(time_ns: int) -> str:
    return f"{'-' if time_ns < 0 else '+'}{duration(abs(time_ns))}"


def _moved_clause(comparison: Comparison) -> str:
    moved, instead = comparison.all_kinds, _instead(comparison.kinds)
    if moved is None:
        return ""
    if moved.a.payload_bytes is None or moved.b.payload_bytes is None:
        return f"communicates {instead}" if instead else ""
    a_bytes, b_bytes = moved.a.payload_bytes.per_step, moved.b.payload_bytes.per_step
    if a_bytes == b_bytes:
        ratio = "moves the same bytes"
    else:
        ratio = f"moves {b_bytes / a_bytes:.2f} times the bytes" if a_bytes else f"moves {size(b_bytes)} a step"
    return f"{ratio}, {instead}" if instead else ratio


def _instead(kinds: Sequence[KindChange]) -> str:
    """The kinds of communication that only one side has."""
    came = [class_name(row.kind) for row in kinds if _calls_of(row.b.calls) and not _calls_of(row.a.calls)]
    went = [class_name(row.kind) for row in kinds if _calls_of(row.a.calls) and not _calls_of(row.b.calls)]
    if came and went:
        return f"with {enumeration(came)} instead of {enumeration(went)}"
    return f"with {enumeration(came)} besides" if came else f"without {enumeration(went)}" if went else ""


def _calls_of(calls: PerStep | None) -> bool:
    """Whether there are any; of calls that are not counted some were seen to run."""
    return calls is None or bool(calls.total)


def warning(comparison: Comparison) -> str:
    """What is not comparable, in one sentence; empty where everything is."""
    unfair = dict.fromkeys(c.subject for c in comparison.caveats if c.severity == "not comparable")
    return f"Not comparable as they are: they differ in {enumeration(list(unfair))}." if unfair else ""
