"""What a single cell, or a pair of cells, says of a claim: for it, against it, or nothing; and the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shardprof.analysis.result import Result, Volumes
from shardprof.study.bench.cells import AS_SHIPPED
from shardprof.study.conclusions.groups import DDP, DEEPSPEED, FSDP, CellTrials, family
from shardprof.study.conclusions.mean_step import GRADIENT_KINDS
from shardprof.study.conclusions.phrases import between, percent, ratio
from shardprof.study.conclusions.statistics import differs
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Estimate, Situation
from shardprof.words import size

NO_OVERLAP = 0.05
"""What of its reductions a cell overlaps that overlaps none."""
_EXCESS, _TOLERANCE = 1.5, 0.05
_SHARDS_LIKE = {"zero2": ("fsdp1-grad-op", "fsdp2-grad-op"), "zero3": ("fsdp1-full", "fsdp2-full")}
RatioOf = Callable[[CellTrials, CellTrials], "Estimate | None"]


@dataclass(frozen=True, slots=True)
class Case:
    """`speaks_for` is None where the figures do not tell."""

    speaks_for: bool | None
    words: str

    def reversed(self) -> Case:
        """What it says of the opposite."""
        return Case(None if self.speaks_for is None else not self.speaks_for, self.words)


def reports_of(cell: CellTrials) -> list[Result]:
    """Of its finished trials."""
    return [report for trial in cell.finished.values() if (report := trial.measurement.report)]


def setting(cell: CellTrials, name: str) -> int | None:
    """A number among the recorded settings of its framework."""
    found = [value for report in reports_of(cell) if isinstance(value := report.source.settings.get(name), int)]
    return found[0] if found else None


def has_one_bucket(cell: CellTrials) -> bool:
    """Whether DeepSpeed's bucket holds all gradients."""
    bucket, parameters = setting(cell, "reduce_bucket_elements"), setting(cell, "parameters")
    return bucket is not None and parameters is not None and bucket >= parameters


def is_shipped(cell: CellTrials, *of: str) -> bool:
    """Whether it is of one of these families, with no knob set."""
    return family(cell.cell.strategy) in of and cell.cell.knobs == AS_SHIPPED


def overlaps_nothing(study: Study, cell: CellTrials) -> Case:
    """Of its gradient reductions."""
    step = study.of(cell).mean_step
    overlap = step.reduced_overlap if step else None
    if overlap is None:
        return Case(None, f"{_named(study, cell)}: no reduction was captured")
    return Case(overlap <= NO_OVERLAP, f"{_named(study, cell)}: {percent(overlap)} of reductions under compute")


def deepspeed_is_slower(study: Study, situation: Situation) -> Iterator[Case]:
    """The fastest DeepSpeed than the fastest of FSDP and DDP, both as shipped."""
    order = study.by_speed(situation)
    theirs = [cell for cell in order if is_shipped(cell, DEEPSPEED)]
    ours = [cell for cell in order if is_shipped(cell, FSDP, DDP)]
    if theirs and ours:
        yield is_more(study, theirs[0], ours[0], study.time_ratio, "the step time")


def all_reduces(study: Study, cell: CellTrials) -> Case:
    """Its gradients, though a reduce-scatter is what its strategy needs."""
    volumes = [report.volumes for report in reports_of(cell) if report.volumes]
    if not volumes or any(row.measured_bytes is None for row in volumes[0].kinds):
        return Case(None, f"{_named(study, cell)}: bytes were not measured")
    sent, needed = _sent_and_needed(volumes[0])
    told = (f"{kind.replace('_', '-')} {size(sent[kind])} ({size(needed[kind])} needed)" for kind in GRADIENT_KINDS)
    verdict = sent["all_reduce"] > sent["reduce_scatter"] and needed["reduce_scatter"] > needed["all_reduce"]
    return Case(verdict, f"{_named(study, cell)}: {', '.join(told)}")


def _sent_and_needed(volumes: Volumes) -> tuple[dict[str, int], dict[str, int]]:
    rows = {row.kind: row for row in volumes.kinds}
    sent = {kind: (rows[kind].measured_bytes or 0) if kind in rows else 0 for kind in GRADIENT_KINDS}
    needed = {kind: (rows[kind].theory_bytes or 0) if kind in rows else 0 for kind in GRADIENT_KINDS}
    return sent, needed


def sends_half_more(study: Study, cell: CellTrials) -> Case:
    """Than its strategy needs, by 5 %."""
    measured = study.of(cell).per_theory
    if measured is None:
        return Case(None, f"{_named(study, cell)}: bytes were not measured, or what is needed is not known")
    return Case(abs(measured / _EXCESS - 1) <= _TOLERANCE, f"{_named(study, cell)}: {ratio(measured)} times theory")


def bucket_exceeds_states(study: Study, cell: CellTrials) -> Case:
    """By the sizes that its report has."""
    states = dict(study.of(cell).states_bytes)
    bucket, rest = states.pop("buckets", None), sum(states.values())
    if bucket is None or not states:
        return Case(None, f"{_named(study, cell)}: the sizes of its states are not known")
    return Case(bucket > rest, f"{_named(study, cell)}: bucket {size(bucket)}, model states {size(rest)}")


def takes_more_than_with_small_buckets(study: Study, shipped: CellTrials) -> Iterator[Case]:
    """Against each cell of the same strategy and situation whose bucket is smaller."""
    for cell in study.situations[shipped.situation]:
        bucket, as_shipped = (setting(one, "reduce_bucket_elements") for one in (cell, shipped))
        if cell.cell.strategy == shipped.cell.strategy and bucket and as_shipped and bucket < as_shipped:
            yield is_more(study, shipped, cell, study.memory_ratio, study.of(cell).memory_is)


def counterparts(study: Study, situation: Situation) -> Iterator[tuple[CellTrials, CellTrials]]:
    """ZeRO and the FSDP that shards the same, both as shipped."""
    cells = [cell for cell in study.situations[situation] if cell.cell.knobs == AS_SHIPPED]
    for zero in cells:
        like = _SHARDS_LIKE.get(zero.cell.strategy, ())
        yield from ((zero, cell) for cell in cells if cell.cell.strategy in like)


def is_more(study: Study, a: CellTrials, b: CellTrials, ratio_of: RatioOf, what: str) -> Case:
    """Whether the first has more of something than the second."""
    at = study.words(a.situation)
    pair = f"{a.name} against {b.name}" + (f", {at}" if at else "")
    found = ratio_of(a, b)
    if found is None:
        return Case(None, f"{pair}: {what} was not measured of both")
    told = f"{pair}: {ratio(found.value)} times {what}{between(found)}"
    return Case(found.value > 1, told) if differs(found) else Case(None, f"{told}, not told apart")


def verdicts(cases: Sequence[Case]) -> tuple[int, int]:
    """How many speak for something, and how many against it."""
    return sum(case.speaks_for is True for case in cases), sum(case.speaks_for is False for case in cases)


def _named(study: Study, cell: CellTrials) -> str:
    at = study.words(cell.situation)
    return f"{cell.name}, {at}" if at else cell.name
