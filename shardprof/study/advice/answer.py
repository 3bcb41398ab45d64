"""FSDP or DeepSpeed for a model and machines: which strategy, which cannot be told from it, what would change it.

Of what fits, a strategy is ahead of another one if it is faster in every case: whatever of the assumptions holds, it
holds for both. What is not told apart is a tie: first is who is fastest in the mean over the cases or, of those within
2 % of that, who leaves most memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shardprof.study.advice.outlook import Outlook, outlooks
from shardprof.study.advice.question import Question
from shardprof.study.bench.fit import DOES_NOT_FIT, FITS, TIGHT

FABRIC, MEMORY, PARAMETERS = "fabric", "memory", "parameters"
_NOTABLE = 0.02
_FARTHEST = 10
_BISECTIONS = 10
_ORDER = (FITS, TIGHT, DOES_NOT_FIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From `value` of an axis on, upwards or downwards, `strategy` (with its knobs) comes first; None: nothing fits."""

    axis: str
    value: float
    upwards: bool
    strategy: str | None
    knobs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer. `ranking` has each strategy once, the preferred one first, with the checkpointing that it needs;
    so many of them from the first on (`tied`) cannot be told apart. `all` has what is with and without checkpointing.
    """

    question: Question
    ranking: tuple[Outlook, ...]
    tied: int
    all: tuple[Outlook, ...]
    thresholds: tuple[Threshold, ...]

    @property
    def first(self) -> Outlook | None:
        """None where nothing fits."""
        return self.ranking[0] if self.ranking[0].fit.verdict != DOES_NOT_FIT else None

    @property
    def best_of_the_other(self) -> Outlook | None:
        """The first of the other framework that fits."""
        fitting = (each for each in self.ranking if each.fit.verdict != DOES_NOT_FIT)
        return next((each for each in fitting if each.is_deepspeed != self.ranking[0].is_deepspeed), None)


def advise(question: Question) -> Advice:
    """The answer to a question. Raises ShardprofError where it cannot be answered."""
    question.check()
    every = outlooks(question)
    ranking, tied = _ranked(every)
    return Advice(
        question=question,
        ranking=tuple(ranking),
        tied=tied,
        all=tuple(every),
        thresholds=tuple(_thresholds(question, ranking[0])),
    )


def _ranked(every: Sequence[Outlook]) -> tuple[list[Outlook], int]:
    """The strategies by preference, and how many of the first cannot be told apart."""
    ordered = sorted(
        _with_needed_checkpointing(every), key=lambda each: (_ORDER.index(each.fit.verdict), _mean_s(each))
    )
    fastest = ordered[0]
    if fastest.fit.verdict == DOES_NOT_FIT:
        return sorted(ordered, key=lambda each: each.fit.peak_bytes), 0
    equals = [each for each in ordered if each is fastest or _may_be_as_fast(each, fastest)]
    nearest = [each for each in equals if _mean_s(each) <= _mean_s(fastest) * (1 + _NOTABLE)]
    first = max(nearest, key=lambda each: each.fit.room_bytes or 0)
    equals.sort(key=lambda each: (each is not first, _mean_s(each)))
    return equals + [each for each in ordered if each not in equals], len(equals)


def _with_needed_checkpointing(every: Sequence[Outlook]) -> list[Outlook]:
    """Of each strategy the plain one, unless only the checkpointed one fits."""
    best: dict[tuple[str, str], Outlook] = {}
    for each in every:
        known = best.setdefault((each.strategy, each.knobs), each)
        if _ORDER.index(each.fit.verdict) < _ORDER.index(known.fit.verdict):
            best[each.strategy, each.knobs] = each
    return list(best.values())


def _mean_s(outlook: Outlook) -> float:
    return sum(time.middle for time in outlook.times_s) / len(outlook.times_s)


def _may_be_as_fast(other: Outlook, fastest: Outlook) -> bool:
    """Whether another one that fits as well is within 2 % of the fastest in some case, at its best.

    What hides of two of one family hides alike: their best meet, and their worst.
    """
    if other.fit.verdict != fastest.fit.verdict:
        return False
    alike = other.family == fastest.family and not (other.measured or fastest.measured)
    for mine, others in zip(fastest.times_s, other.times_s, strict=True):
        pairs = ((mine.low, others.low), (mine.high, others.high)) if alike else ((mine.high, others.low),)
        if any(its <= ours * (1 + _NOTABLE) for ours, its in pairs):
            return True
    return False


def _thresholds(question: Question, first: Outlook) -> list[Threshold]:
    """Where the first one changes, along each axis both ways."""
    axes: dict[str, Callable[[float], Question]] = {
        MEMORY: lambda times: replace(question, memory_bytes=round(question.memory_bytes * times)),
        PARAMETERS: lambda times: replace(question, parameters=round(question.parameters * times)),
    }
    if question.nodes > 1 and question.fabric_bytes_per_s is not None:
        fabric = question.fabric_bytes_per_s
        axes = {FABRIC: lambda times: replace(question, fabric_bytes_per_s=fabric * times), **axes}
    found = (_threshold(axis, at, first, upwards) for axis, at in axes.items() for upwards in (False, True))
    return [threshold for threshold in found if threshold is not None]


def _threshold(axis: str, at: Callable[[float], Question], first: Outlook, upwards: bool) -> Threshold | None:  # noqa: FBT001
    """Doubling (or halving) to where another one is first, then between the last two to within a thousandth."""
    kept = 1.0
    for exponent in range(1, _FARTHEST + 1):
        changed = 2.0 ** (exponent if upwards else -exponent)
        if _name(_first(at(changed))) != _name(first):
            break
        kept = changed
    else:
        return None
    for _ in range(_BISECTIONS):
        between = (kept * changed) ** 0.5
        if _name(_first(at(between))) != _name(first):
            changed = between
        else:
            kept = between
    then, value = _first(at(changed)), getattr(at(changed), _FIELDS[axis])
    fits = then.fit.verdict != DOES_NOT_FIT
    return Threshold(
        axis=axis, value=value, upwards=upwards, strategy=then.strategy if fits else None, knobs=then.knobs
    )


_FIELDS = {FABRIC: "fabric_bytes_per_s", MEMORY: "memory_bytes", PARAMETERS: "parameters"}


def _first(question: Question) -> Outlook:
    return _ranked(outlooks(question))[0][0]


def _name(outlook: Outlook) -> tuple[str, str] | None:
    return (outlook.strategy, outlook.knobs) if outlook.fit.verdict != DOES_NOT_FIT else None
