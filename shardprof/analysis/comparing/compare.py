"""Two runs side by side, or two groups of runs of the same thing: what the difference of their steps consists of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from statistics import median
from typing import Any

from shardprof.analysis.comparing.comparison import (
    CallsChange,
    Comparison,
    FigureChange,
    KernelChange,
    KindChange,
    Part,
    PerStep,
    Side,
    Traffic,
    Turnover,
)
from shardprof.analysis.comparing.fairness import caveats
from shardprof.analysis.comparing.measured import PEAKS, USED, Measured, full_steps
from shardprof.analysis.comparing.resampling import Sample, change_interval, interval, median_low
from shardprof.analysis.comparing.work import Work
from shardprof.analysis.result import Result, Step, sum_if_all_known
from shardprof.trace.classes import CLASSES, COMM_KINDS
from shardprof.trace.collectives import UNKNOWN

_MOST_KERNELS = 20
_MOST_RECORDED = 500

Group = Sequence[Measured]


def compare(a: Group, b: Group) -> Comparison:
    """What changed from the runs of `a` to those of `b`; neither may be empty."""
    before, after = _wall_ns(a), _wall_ns(b)
    side_a, side_b = _side(a), _side(b)
    steps_a, steps_b = _rank_steps(a), _rank_steps(b)
    both = bool(steps_a and steps_b)
    work_a, work_b = (_work(a), _work(b)) if both else (None, None)
    kinds = _kinds(steps_a, steps_b, work_a, work_b) if both else ()
    return Comparison(
        a=side_a,
        b=side_b,
        change=_change(before.figure(median_low), after.figure(median_low)),
        change_interval=change_interval(before, after, median_low),
        recorded_change=_change(side_a.recorded_ns, side_b.recorded_ns),
        recorded_change_interval=change_interval(_recorded_ns(a), _recorded_ns(b), median_low),
        waterfall=_waterfall(steps_a, steps_b) if both else (),
        kinds=kinds,
        all_kinds=_together(kinds) if kinds else None,
        calls=_calls(work_a, work_b, len(steps_a), len(steps_b)) if work_a and work_b else None,
        kernels=_kernels(work_a, work_b, len(steps_a), len(steps_b)) if work_a and work_b else None,
        on_gpu=any(rank.device == "cuda" for run in (*a, *b) for rank in run.result.ranks),
        memory=_memory(a, b),
        counters=_counters(steps_a, steps_b),
        caveats=caveats(a, b),
        notices=_turnover(a, b, lambda result: [(notice.code, notice.message) for notice in result.notices]),
        findings=_findings(a, b),
        doubts=_turnover(a, b, _doubts),
    )


def _change(before: float | None, after: float | None) -> float | None:
    return after / before - 1 if before and after is not None else None


def _wall_ns(runs: Group) -> Sample:
    return Sample([[[step.wall_ns for step in ranks] for ranks in full_steps(run.result)] for run in runs])


def _recorded_ns(runs: Group) -> Sample:
    """The recorded steps; of a run's very many some by lot, since it takes longer to draw from more."""
    lot = random.Random(0)
    some = [lot.sample(run.recorded_ns, min(len(run.recorded_ns), _MOST_RECORDED)) for run in runs]
    return Sample([[[time_ns] for time_ns in times_ns] for times_ns in some])


def _rank_steps(runs: Group) -> list[Step]:
    return [step for run in runs for ranks in full_steps(run.result) for step in ranks]


def _work(runs: Group) -> Work | None:
    """The work of all runs; None where one is a saved report."""
    whole = Work()
    for run in runs:
        if run.work is None:
            return None
        whole.add(run.work)
    return whole


def _side(runs: Group) -> Side:
    first, steps, walls = runs[0].result, _rank_steps(runs), _wall_ns(runs)
    source = first.source
    middle_ns = walls.figure(median_low)
    recorded = [rank.always_on.wall_ns for run in runs for rank in run.result.ranks if rank.always_on]
    on_cpu = any(rank.device == "cpu" for rank in first.ranks)
    return Side(
        paths=tuple(path for run in runs for path in run.result.source.paths),
        framework=source.framework,
        strategy=_text(source.settings.get("strategy")),
        precision=_text(source.settings.get("precision")),
        world_size=source.world_size,
        device=source.device_name or ("CPU" if on_cpu else None),
        steps=tuple(sorted({step.step for step in steps})),
        rank_steps=len(steps),
        median_ns=None if middle_ns is None else round(middle_ns),
        interval_ns=interval(walls, median_low),
        mean_ns=_mean(sum(step.wall_ns for step in steps), len(steps)) if steps else None,
        recorded_ns=round(median(recorded)) if recorded else None,
    )


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _mean(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)


def _waterfall(a: Sequence[Step], b: Sequence[Step]) -> tuple[Part, ...]:
    means_a, means_b = _mean_partition_ns(a), _mean_partition_ns(b)
    parts = [
        Part(name=name, a_ns=means_a[name], b_ns=means_b[name], change_ns=means_b[name] - means_a[name])
        for name in CLASSES
        if means_a[name] or means_b[name]
    ]
    return tuple(sorted(parts, key=lambda part: -abs(part.change_ns)))


def _mean_partition_ns(steps: Sequence[Step]) -> dict[str, int]:
    """The classes of the mean step: whole nanoseconds, by largest remainders, that sum to its rounded length."""
    sums = {name: sum(step.partition_ns.get(name, 0) for step in steps) for name in CLASSES}
    means = {name: total // len(steps) for name, total in sums.items()}
    missing = _mean(sum(sums.values()), len(steps)) - sum(means.values())
    for name in sorted(sums, key=lambda name: -(sums[name] % len(steps)))[:missing]:
        means[name] += 1
    return means


def _kinds(a: Sequence[Step], b: Sequence[Step], work_a: Work | None, work_b: Work | None) -> tuple[KindChange, ...]:
    return tuple(
        KindChange(kind=kind, a=_traffic(kind, a, work_a), b=_traffic(kind, b, work_b))
        for kind in COMM_KINDS
        if any(step.comm_calls.get(kind) or step.comm_kind_ns.get(kind) for step in chain(a, b))
    )


def _traffic(kind: str, steps: Sequence[Step], work: Work | None) -> Traffic:
    calls = sum(step.comm_calls.get(kind, 0) for step in steps)
    ran_uncounted = not calls and any(step.comm_kind_ns.get(kind) for step in steps)
    payload = sum_if_all_known([step.comm_bytes.get(kind, 0) for step in steps])
    wire = [size for (of_kind, _), size in work.wire_bytes.items() if of_kind == kind] if work else [UNKNOWN]
    return Traffic(
        calls=None if ran_uncounted else PerStep(calls, len(steps)),
        payload_bytes=None if ran_uncounted or payload is None else PerStep(payload, len(steps)),
        wire_bytes=None if ran_uncounted or UNKNOWN in wire else PerStep(sum(wire), len(steps)),
    )


def _together(kinds: Sequence[KindChange]) -> KindChange:
    """All kinds as one; unknown is what is unknown of one of them."""
    return KindChange(kind="all", a=_sum([row.a for row in kinds]), b=_sum([row.b for row in kinds]))


def _sum(kinds: Sequence[Traffic]) -> Traffic:
    return Traffic(
        calls=_sum_if_known([kind.calls for kind in kinds]),
        payload_bytes=_sum_if_known([kind.payload_bytes for kind in kinds]),
        wire_bytes=_sum_if_known([kind.wire_bytes for kind in kinds]),
    )


def _sum_if_known(parts: Sequence[PerStep | None]) -> PerStep | None:
    total = sum_if_all_known([part.total if part else None for part in parts])
    return None if total is None else PerStep(total, next(part.steps for part in parts if part))


def _calls(a: Work, b: Work, steps_a: int, steps_b: int) -> tuple[CallsChange, ...]:
    """By kind, the largest calls first."""
    keys = sorted(a.collectives.keys() | b.collectives.keys(), key=lambda key: (COMM_KINDS.index(key[0]), -key[1]))
    return tuple(
        CallsChange(
            kind=kind,
            call_bytes=None if size == UNKNOWN else size,
            a_calls=PerStep(a.collectives[kind, size], steps_a),
            b_calls=PerStep(b.collectives[kind, size], steps_b),
        )
        for kind, size in keys
    )


def _kernels(a: Work, b: Work, steps_a: int, steps_b: int) -> tuple[KernelChange, ...]:
    changes = []
    for name in a.calls.keys() | b.calls.keys():
        a_ns, b_ns = _mean(a.time_ns[name], steps_a), _mean(b.time_ns[name], steps_b)
        calls = PerStep(a.calls[name], steps_a), PerStep(b.calls[name], steps_b)
        changes.append(
            KernelChange(name=name, a_calls=calls[0], b_calls=calls[1], a_ns=a_ns, b_ns=b_ns, change_ns=b_ns - a_ns)
        )
    return tuple(sorted(changes, key=lambda change: (-abs(change.change_ns), change.name))[:_MOST_KERNELS])


def _memory(a: Group, b: Group) -> tuple[FigureChange, ...]:
    """The most that any rank had; where both sides were measured."""
    return tuple(
        FigureChange(name=name, a=max(run.memory_bytes[name] for run in a), b=max(run.memory_bytes[name] for run in b))
        for name in (*PEAKS, *USED)
        if all(name in run.memory_bytes for run in (*a, *b))
    )


def _counters(a: Sequence[Step], b: Sequence[Step]) -> tuple[FigureChange, ...]:
    """Means over the steps; where both sides were measured. What is in use is told with memory."""
    means_a, means_b = _mean_counters(a), _mean_counters(b)
    names = sorted((means_a.keys() & means_b.keys()).difference(USED))
    return tuple(FigureChange(name=name, a=means_a[name], b=means_b[name]) for name in names)


def _mean_counters(steps: Iterable[Step]) -> Mapping[str, float]:
    values: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.counters.items():
            values.setdefault(name, []).append(value)
    return {name: sum(measured) / len(measured) for name, measured in values.items()}


def _turnover(a: Group, b: Group, told: Callable[[Result], Iterable[tuple[str, str]]]) -> Turnover:
    """What only one side tells, by its code: messages hold figures that are never twice the same."""
    of_a, of_b = ([pair for run in side for pair in told(run.result)] for side in (a, b))
    codes_a, codes_b = ({code for code, _ in pairs} for pairs in (of_a, of_b))
    return Turnover(
        went=tuple(dict.fromkeys(f"{code}: {message}" for code, message in of_a if code not in codes_b)),
        came=tuple(dict.fromkeys(f"{code}: {message}" for code, message in of_b if code not in codes_a)),
    )


def _doubts(result: Result) -> list[tuple[str, str]]:
    return [(doubt.code, doubt.message) for doubt in result.quality]


def _findings(a: Group, b: Group) -> Turnover | None:
    if any(run.result.findings is None for run in (*a, *b)):
        return None
    return _turnover(a, b, lambda result: map(_rule_and_title, result.findings or ()))


def _rule_and_title(finding: Any) -> tuple[str, str]:
    """Of a finding; a report that was kept holds mappings instead of records."""
    told = finding if isinstance(finding, Mapping) else {name: getattr(finding, name, "") for name in ("rule", "title")}
    return str(told.get("rule", "")), str(told.get("title", ""))
