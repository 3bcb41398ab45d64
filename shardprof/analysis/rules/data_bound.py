"""R14: steps wait for the DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules._waiting import Waiting, won_ns
from shardprof.engine import intersect
from shardprof.trace.importers.kineto import DATALOADER_RANGE
from shardprof.words import milliseconds, numbers

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
    """Where data loading that nothing runs beside takes more than LEAST_SHARE of the steps of some ranks, or makes
    their hosts late for as long. A rank that loads for longer than the others is R18's."""
    late = {straggler.rank for straggler in case.result.stragglers or () if straggler.cause == "data_loading"}
    seen = [one for one in case.seen(Loading) if one.rank not in late]
    every = {rank.rank for rank, _ in case.full_steps()}
    ranks = {one.rank for one in seen} or every - late
    if not ranks:
        return
    steps = [step for rank, step in case.full_steps() if rank.rank in ranks]
    loading_ns = fmean(step.partition_ns["data_loading"] for step in steps)
    most_ns = max([loading_ns, *([fmean(one.most_ns for one in seen)] if seen else [])])
    cost_ns = won_ns(case, seen) if seen else most_ns
    if min(cost_ns, most_ns) <= LEAST_SHARE * case.step_ns:
        return
    whose = f" on rank{'s' if len(ranks) > 1 else ''} {numbers(ranks)}" if ranks != every else ""
    yield case.finding(
        "R14",
        f"Steps wait for data{whose}, {cost_ns / case.step_ns:.0%} of their time".replace("%", " %"),
        [
            said(
                f"the main thread is inside the DataLoader's __next__ for {milliseconds(loading_ns)} of a step "
                "while nothing computes or communicates"
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
