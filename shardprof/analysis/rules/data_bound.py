"""R14: steps wait for the DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, won_ns
from shardprof.engine import intersect
from shardprof.trace.importers.kineto import DATALOADER_RANGE

LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading(Waiting):
    """The main thread inside the DataLoader, while nothing runs. Of a host that is ahead of its GPU what counts is how
    late it launches what comes next: it may lose its lead there while the GPU still works."""


def observe(view: View) -> Iterator[Loading]:
    """The DataLoader's ranges on the main thread, where steps can wait for them."""
    rows = view.rows(view.events.named(DATALOADER_RANGE.search) & (view.events.thread == view.trace.main_thread))
    loading = view.activities.data_loading
    alone_ns = view.a_step_ns(loading) - view.a_step_ns(intersect(loading, view.activities.busy()))
    most_ns = view.idled_ns(rows) if len(view.activities.late_launches) else alone_ns
    if len(rows) and most_ns > LEAST_SHARE * view.step_ns:
        evidence = view.at(view.most_exposed(rows), "it takes longest here")
        yield Loading(rank=view.rank, evidence=(evidence,), rows=view.in_sample(rows), most_ns=most_ns)


def find(case: Case) -> Iterator[Finding]:
    """Where data loading that nothing runs beside takes more than LEAST_SHARE of the steps' time, or makes the host
    late for as long."""
    seen, share = case.seen(Loading), case.steps.share("data_loading")
    most_ns = max(share * case.step_ns, case.mean_of_ranks(seen, lambda one: one.most_ns))
    cost_ns = won_ns(case, seen) if seen else most_ns
    if min(cost_ns, most_ns) <= LEAST_SHARE * case.step_ns:
        return
    yield case.finding(
        "R14",
        f"Steps wait for data, {cost_ns / case.step_ns:.0%} of their time".replace("%", " %"),
        [
            said(
                "while nothing computes or communicates the main thread is inside the DataLoader's __next__ for "
                f"{share:.0%} of the steps' time".replace("%", " %")
                + ("; the host launches what comes next later for it" if case.on_gpu else "")
            ),
            case.longest(seen, "data_loading", "it takes longest here"),
        ],
        cost_ns,
        Turn(
            advice="load batches in workers ahead of the step that needs them",
            knob="DataLoader(num_workers=CORES // RANKS, pin_memory=True, persistent_workers=True, prefetch_factor=4)",
            side_effect="memory for each worker's batches; more workers than cores make all of them slower",
            disproof="the same steps with one batch in memory, used again and again, take as long",
        ),
    )
