"""What the counters show of a rank that is late: a clock lower than the others', a main thread that is put off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from shardprof.analysis.result import Evidence, Rank, Step


@dataclass(frozen=True, slots=True)
class _Sign:
    """A counter that tells why a rank is late, by `cause`: its figure in a step, how far from the others' it has to be,
    and the sentence of the two."""

    causes: tuple[str, ...]
    of_step: Callable[[Step], float | None]
    stands_out: Callable[[float, float], bool]
    words: Callable[[float, float], str]


def _mean(name: str) -> Callable[[Step], float | None]:
    return lambda step: step.counters.get(name)


def _share(name: str) -> Callable[[Step], float | None]:
    """Of a total in seconds the share of the step."""
    return lambda step: step.counters[name] * 1e9 / step.wall_ns if name in step.counters else None


_SIGNS = (
    _Sign(
        ("compute", "imbalance"),
        _mean("gpu_sm_clock_mhz"),
        lambda own, others: own < 0.95 * others,
        lambda own, others: f"the SM clock of its GPU is {own:,.0f} MHz, the others' {others:,.0f}",
    ),
    _Sign(
        ("compute", "launch", "data_loading"),
        _share("main_thread_waiting_s"),
        lambda own, others: own > others + 0.05,
        lambda own, others: f"its main thread waits for a CPU {own:.0%} of a step, the others' {others:.0%}",
    ),
    _Sign(
        ("launch", "data_loading"),
        _share("main_thread_cpu_s"),
        lambda own, others: own > others + 0.1,
        lambda own, others: f"its main thread runs on a CPU {own:.0%} of a step, the others' {others:.0%}",
    ),
    _Sign(
        ("launch", "data_loading", "compute"),
        _share("garbage_s"),
        lambda own, others: own > others + 0.01,
        lambda own, others: f"Python's garbage collector holds it up for {own:.1%} of a step, the others {others:.1%}",
    ),
    _Sign(
        ("launch", "data_loading", "compute"),
        _mean("major_page_faults"),
        lambda own, others: own > others + 10,
        lambda own, others: f"it has {own:,.0f} page faults a step that read from storage, the others {others:,.0f}",
    ),
)


def counter_evidence(rank: int, cause: str, ranks: Sequence[Rank]) -> tuple[Evidence, ...]:
    """The counters that tell why `rank` is late for this `cause`, where both it and others have them."""
    found = []
    for sign in _SIGNS:
        figures = {one.rank: figure for one in ranks if (figure := _figure(sign, one)) is not None}
        others = [figure for other, figure in figures.items() if other != rank]
        if cause in sign.causes and rank in figures and others and sign.stands_out(figures[rank], median(others)):
            message = sign.words(figures[rank], median(others)).replace("%", " %")
            found.append(Evidence(message=message, rank=rank, step=None, begin_ns=None, end_ns=None))
    return tuple(found)


def _figure(sign: _Sign, rank: Rank) -> float | None:
    known = [figure for step in rank.steps if not step.empty and (figure := sign.of_step(step)) is not None]
    return fmean(known) if known else None
