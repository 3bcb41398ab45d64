"""What of a run a timeline shows: all of it or, where a viewer could not hold that, the most telling part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.engine import NOTHING, Intervals, merge
from shardprof.errors import ShardprofError
from shardprof.trace.timeline.overview import RankOverview, Window
from shardprof.words import numbers

MOST_EVENTS = 4_000_000
"""What Perfetto opens within a minute in a browser and 2 GB (docs/timeline.md)."""
_FEWEST_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The captured events that are shown: those of some `ranks` and `steps` (None: all), and with `slim` no operators,
    calls into the driver or Python functions. Steps, their classes and what was always recorded are shown of all."""

    ranks: frozenset[int] | None = None
    steps: range | None = None
    slim: bool = False

    def shows(self, rank: int) -> bool:
        """Whether the captured events of a rank are shown."""
        return self.ranks is None or rank in self.ranks

    def windows(self, window: Window) -> Intervals | None:
        """The times in a trace whose events are shown, merged; None for all."""
        if self.steps is None:
            return None
        chosen = [number in self.steps for number in window.steps.numbers]
        return merge(window.steps.windows[np.array(chosen, dtype=np.bool_)]) if any(chosen) else NOTHING


def choose(ranks: Sequence[RankOverview], first_ranks: Sequence[int], most: int = MOST_EVENTS) -> Choice:
    """The most that has no more than `most` events: rather all ranks without operators than some with them; then those
    ranks that come first in `first_ranks`; then the last steps of one of them."""
    whole = Choice()
    if _events(ranks, whole) <= most:
        return whole
    slim = Choice(slim=True)
    if _events(ranks, slim) <= most:
        return slim
    chosen = frozenset(_that_fit(ranks, first_ranks, most))
    some = Choice(slim=True, ranks=chosen)
    return some if _events(ranks, some) <= most else _last_steps(ranks, chosen, most)


def check(choice: Choice, ranks: Sequence[RankOverview]) -> None:
    """Raises ShardprofError where there is none of the ranks, or of the captured steps, that were chosen."""
    shown = [rank for rank in ranks if choice.shows(rank.rank)]
    if not shown:
        raise ShardprofError(f"there is no rank {numbers(choice.ranks or ())}", f"there are {_all(ranks)}")
    steps = {number for rank in shown for window in rank.windows for number in window.steps.numbers}
    if choice.steps is not None and not steps.intersection(choice.steps):
        hint = f"captured are {numbers(steps)}" if steps else "no step of these ranks was captured"
        raise ShardprofError(f"there is no captured step {numbers(choice.steps)}", hint)


def _all(ranks: Sequence[RankOverview]) -> str:
    return numbers(rank.rank for rank in ranks)


def left_out(choice: Choice, ranks: Sequence[RankOverview]) -> list[str]:
    """What a choice leaves out, in words."""
    shown = [rank for rank in ranks if choice.shows(rank.rank)]
    without = [rank.rank for rank in ranks if not choice.shows(rank.rank) and rank.windows]
    words = []
    if choice.slim and any(window.slim_events < window.events for rank in shown for window in rank.windows):
        words.append("operators and calls on the CPU (slim)")
    if without:
        words.append(
            f"the events of {'rank' if len(without) == 1 else 'ranks'} {numbers(without)}, but not their steps"
        )
    if choice.steps is not None:
        words.append(f"the events outside of {'step' if len(choice.steps) == 1 else 'steps'} {numbers(choice.steps)}")
    return words


def _events(ranks: Sequence[RankOverview], choice: Choice) -> int:
    """About how many events are shown."""
    windows = [window for rank in ranks if choice.shows(rank.rank) for window in rank.windows]
    return sum(
        round(_share(window, choice) * (window.slim_events if choice.slim else window.events)) for window in windows
    )


def _share(window: Window, choice: Choice) -> float:
    """The share of a trace's steps that are shown."""
    if choice.steps is None:
        return 1.0
    return sum(number in choice.steps for number in window.steps.numbers) / max(len(window.steps.numbers), 1)


def _that_fit(ranks: Sequence[RankOverview], first_ranks: Sequence[int], most: int) -> Iterator[int]:
    """Ranks in the order of interest until there are too many events, one at least."""
    by_number = {rank.rank: rank for rank in ranks if rank.windows}
    order = dict.fromkeys([*(rank for rank in first_ranks if rank in by_number), *by_number])
    events = 0
    for number in order:
        events += sum(window.slim_events for window in by_number[number].windows)
        if events > most and number != next(iter(order)):
            return
        yield number


def _last_steps(ranks: Sequence[RankOverview], chosen: frozenset[int], most: int) -> Choice:
    """Of ranks that have too many events even so, as many of the last steps as fit."""
    steps = sorted(
        {number for rank in ranks if rank.rank in chosen for w in rank.windows for number in w.steps.numbers}
    )
    for first in steps[:-_FEWEST_STEPS]:
        choice = Choice(slim=True, ranks=chosen, steps=range(first, steps[-1] + 1))
        if _events(ranks, choice) <= most:
            return choice
    few = steps[-_FEWEST_STEPS:]
    return Choice(slim=True, ranks=chosen, steps=range(few[0], few[-1] + 1) if few else None)
