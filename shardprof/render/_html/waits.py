"""Who waited for whom: ranks and steps as heat maps, and the ranks that keep the others waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardprof.analysis.result import Rank, Result, Step
from shardprof.render._html.page import Heat, Section, sentence
from shardprof.render._lateness import lateness_verdict
from shardprof.words import plural, time_scale

_MOST_RANKS, _MOST_STEPS = 32, 60


def section(result: Result, late: Sequence[str]) -> Section:
    """The section, `late` being the words for those who are late; empty of a single rank."""
    heats = [
        *_heat("How long each rank waited for others", result.ranks, lambda step: step.wait_ns),
        *_heat("How long others waited for each rank, by doing of its own", result.ranks, lambda step: step.late_ns),
    ]
    lines = tuple(map(sentence, (lateness_verdict(result), *late))) if heats or late else ()
    return Section(name="waits", short="Waits", title="Waits between ranks", lines=lines, heats=tuple(heats))


def why_none(result: Result) -> str:
    """Why the section is empty."""
    steps = [step for rank in result.ranks for step in rank.steps if not step.empty]
    if len({rank.rank for rank in result.ranks if any(not step.empty for step in rank.steps)}) < 2:
        return "they take captured steps of several ranks"
    if any(step.wait_ns is not None for step in steps):
        return "no rank waited for another"
    if not any(step.comm_ns for step in steps):
        return "no captured step holds communication"
    return "of no collective was more than one rank seen; traces may not tell process groups, or not share steps"


def _heat(title: str, ranks: Sequence[Rank], time_of: Callable[[Step], int | None]) -> list[Heat]:
    """Of very many ranks and steps those with the longest times."""
    times = {(rank.rank, step.step): time_of(step) for rank in ranks for step in rank.steps if not step.empty}
    known = {place: time_ns for place, time_ns in times.items() if time_ns is not None}
    if not any(known.values()):
        return []
    shown_ranks, hidden_ranks = _worst([(rank, time_ns) for (rank, _), time_ns in known.items()], _MOST_RANKS)
    steps, hidden_steps = _worst([(step, time_ns) for (_, step), time_ns in known.items()], _MOST_STEPS)
    scale, most_ns = time_scale(known.values()), max(known.values())
    hidden = [plural(count, noun) for count, noun in ((hidden_ranks, "rank"), (hidden_steps, "step")) if count]
    rows = []
    for rank in shown_ranks:
        of_rank = [known.get((rank, step)) for step in steps]
        cells = (None if time_ns is None else (scale.figure(time_ns), time_ns / most_ns) for time_ns in of_rank)
        rows.append((f"rank {rank}", tuple(cells)))
    return [
        Heat(
            title=title,
            columns=(f"{scale.unit} in step", *map(str, steps)),
            rows=tuple(rows),
            notes=(f"those with the longest times; {' and '.join(hidden)} more in --format json",) if hidden else (),
        )
    ]


def _worst(times_ns: Sequence[tuple[int, int]], most: int) -> tuple[list[int], int]:
    """Those with the longest times in all, in order; and how many there are more."""
    sums_ns: dict[int, int] = {}
    for number, time_ns in times_ns:
        sums_ns[number] = sums_ns.get(number, 0) + time_ns
    worst = sorted(sums_ns, key=lambda number: -sums_ns[number])[:most]
    return sorted(worst), len(sums_ns) - len(worst)
