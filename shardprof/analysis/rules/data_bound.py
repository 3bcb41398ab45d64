"""R14: steps wait for the DataLoader."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said

LEAST_SHARE = 0.05


def find(case: Case) -> Iterator[Finding]:
    """Where more than LEAST_SHARE of the steps' time is data loading that nothing runs beside."""
    share = case.steps.share("data_loading")
    if share <= LEAST_SHARE:
        return
    cost_ns = share * case.step_ns
    yield case.finding(
        "R14",
        f"Steps wait for data, {share:.0%} of their time".replace("%", " %"),
        [
            said("the main thread is inside the DataLoader's __next__ while nothing computes or communicates"),
            case.worst("data_loading", "it takes longest here"),
        ],
        cost_ns,
        Turn(
            advice="load batches in workers ahead of the step that needs them",
            knob="DataLoader(num_workers=CORES // RANKS, pin_memory=True, persistent_workers=True, prefetch_factor=4)",
            side_effect="memory for each worker's batches; more workers than cores make all of them slower",
            disproof="the same steps with one batch in memory, used again and again, take as long",
        ),
    )
