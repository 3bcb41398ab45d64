"""R14: steps wait for the DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.trace.importers.kineto import DATALOADER_RANGE

LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading(Observation):
    """The main thread inside the DataLoader."""


def observe(view: View) -> Iterator[Loading]:
    """The DataLoader's ranges on the main thread, where steps wait for them."""
    if view.exposed_ns(view.activities.data_loading) <= LEAST_SHARE * view.step_ns:
        return
    rows = view.rows(view.events.named(DATALOADER_RANGE.search) & (view.events.thread == view.trace.main_thread))
    if len(rows):
        evidence = view.at(view.most_exposed(rows), "it takes longest here")
        yield Loading(rank=view.rank, evidence=(evidence,), rows=view.in_sample(rows))


def find(case: Case) -> Iterator[Finding]:
    """Where more than LEAST_SHARE of the steps' time is data loading that nothing runs beside."""
    share = case.steps.share("data_loading")
    if share <= LEAST_SHARE:
        return
    seen = case.seen(Loading)
    yield case.finding(
        "R14",
        f"Steps wait for data, {share:.0%} of their time".replace("%", " %"),
        [
            said("the main thread is inside the DataLoader's __next__ while nothing computes or communicates"),
            case.longest(seen, "data_loading", "it takes longest here"),
        ],
        case.cost_ns(seen, share * case.step_ns),
        Turn(
            advice="load batches in workers ahead of the step that needs them",
            knob="DataLoader(num_workers=CORES // RANKS, pin_memory=True, persistent_workers=True, prefetch_factor=4)",
            side_effect="memory for each worker's batches; more workers than cores make all of them slower",
            disproof="the same steps with one batch in memory, used again and again, take as long",
        ),
    )
