"""What the mean captured step of a cell consists of, from the summaries of its reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shardprof.analysis.result import StepsSummary
from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.study_report import MeanStep

GRADIENT_KINDS = ("all_reduce", "reduce_scatter")
_COMMUNICATION = "communication"
OTHER_GROUPS = ("compute", "copies", "data_loading", "launch_bound", "idle")


def mean_step(cell: CellTrials) -> MeanStep | None:
    """Over the steps of all ranks and repeats, as `shardprof compare` means it; None where none was captured."""
    summaries = [report.summary for trial in cell.finished.values() if (report := trial.measurement.report)]
    steps = [summary.steps for summary in summaries if summary and summary.steps]
    count = sum(each.count for each in steps)
    if not count:
        return None
    sums = Counter[str]()
    for each in steps:
        sums.update({group: each.groups_ns[group] for group in OTHER_GROUPS})
        sums.update({kind.kind: kind.exposed_ns for kind in each.kinds})
    parts_ns = {name: total / count for name, total in sums.items() if total}
    return MeanStep(
        wall_ns=sum(sum(each.groups_ns.values()) for each in steps) / count,
        parts_ns=parts_ns,
        overlapped_share=_ratio(sum(each.overlap_ns for each in steps), sum(each.comm_ns for each in steps)),
        reduced_overlap=_reduced_overlap(steps),
    )


def _reduced_overlap(steps: Iterable[StepsSummary]) -> float | None:
    """The part of gradient reductions that runs under compute."""
    kinds = [kind for each in steps for kind in each.kinds if kind.kind in GRADIENT_KINDS]
    return _ratio(sum(kind.overlapped_ns for kind in kinds), sum(kind.comm_ns for kind in kinds))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def group_of(part: str) -> str:
    """The group of classes that a part of a mean step belongs to."""
    return part if part in OTHER_GROUPS else _COMMUNICATION


def by_group(step: MeanStep) -> dict[str, float]:
    """A mean step by groups: all exposed communication together."""
    sums = Counter[str]()
    for name, time_ns in step.parts_ns.items():
        sums[group_of(name)] += time_ns  # type: ignore[assignment]  # a Counter sums floats too
    return dict(sums)
