"""Why a cell's step is longer than another's: what the difference consists of, and the findings that explain it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.mean_step import group_of
from shardprof.study.conclusions.phrases import between, longer, signed_time, time
from shardprof.study.conclusions.statistics import differs
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Cause, Estimate, Explanation, MeanStep
from shardprof.words import enumeration

BEST, NEXT = "best", "next"
_MOST_PARTS = 3
_MOST_FINDINGS = 3
_WORTH_A_WORD = 0.1
_WORTH_A_REST = 0.001


def causes(study: Study) -> tuple[Cause, ...]:
    """For each cell of a ranking against the one before it, and against the best."""
    return tuple(cause for situation in study.situations for cause in _causes(study, study.by_speed(situation)))


def _causes(study: Study, cells: list[CellTrials]) -> Iterator[Cause]:
    for index, slower in enumerate(cells[1:]):
        if index:
            yield from _cause(study, cells[0], slower, BEST)
        yield from _cause(study, cells[index], slower, NEXT if index else BEST)


def _cause(study: Study, faster: CellTrials, slower: CellTrials, against: str) -> Iterator[Cause]:
    ratio = study.time_ratio(slower, faster)
    if ratio is None:
        return
    before, after = study.of(faster).mean_step, study.of(slower).mean_step
    parts_ns = _parts_ns(before, after) if before and after else {}
    captured_ns = after.wall_ns - before.wall_ns if before and after else None
    is_told = differs(ratio)
    found = _explanations(faster, slower) if is_told else ()
    yield Cause(
        situation=slower.situation,
        faster=faster.name,
        slower=slower.name,
        against=against,
        ratio=ratio,
        is_told=is_told,
        captured_ns=captured_ns,
        parts_ns=parts_ns,
        findings=found,
        sentence=_sentence(faster.name, slower.name, ratio, captured_ns, parts_ns, found),
    )


def _parts_ns(before: MeanStep, after: MeanStep) -> dict[str, float]:
    """The change of each class, the largest first."""
    names = dict.fromkeys([*after.parts_ns, *before.parts_ns])
    changes = {name: after.parts_ns.get(name, 0.0) - before.parts_ns.get(name, 0.0) for name in names}
    return dict(sorted(changes.items(), key=lambda change: -abs(change[1])))


def _explanations(faster: CellTrials, slower: CellTrials) -> tuple[Explanation, ...]:
    """What costs the slower one more, by its rules: the most first."""
    before, after = _costs_ns(faster), _costs_ns(slower)
    found = [
        Explanation(rule=rule, title=title, cost_ns=cost_ns - before.get(rule, ("", 0.0))[1])
        for rule, (title, cost_ns) in after.items()
    ]
    worth = sorted((one for one in found if one.cost_ns > 0), key=lambda one: -one.cost_ns)
    return tuple(worth[:_MOST_FINDINGS])


def _costs_ns(cell: CellTrials) -> dict[str, tuple[str, float]]:
    """What the findings of a rule cost a step, in the mean over the reports; and the first one's title."""
    reports = [report for trial in cell.finished.values() if (report := trial.measurement.report)]
    titles: dict[str, str] = {}
    costs_ns: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        of_report: dict[str, float] = defaultdict(float)
        for finding in report.findings or ():
            titles.setdefault(finding.rule, finding.title)
            of_report[finding.rule] += finding.cost_ns_per_step or 0
        for rule in of_report:
            costs_ns[rule].append(of_report[rule])
    missing = {rule: [0.0] * (len(reports) - len(costs)) for rule, costs in costs_ns.items()}
    return {rule: (titles[rule], fmean(costs + missing[rule])) for rule, costs in costs_ns.items()}


def _sentence(
    faster: str,
    slower: str,
    ratio: Estimate,
    captured_ns: float | None,
    parts_ns: Mapping[str, float],
    found: tuple[Explanation, ...],
) -> str:
    if not differs(ratio):
        return f"{slower} and {faster} cannot be told apart: ratio {ratio.value:.2f}{between(ratio)}"
    head = f"{slower} takes {longer(ratio, faster)}"
    if captured_ns is None:
        return f"{head}; no step of both was captured that would tell why"
    if captured_ns <= 0:
        return f"{head}, but not in the captured steps ({signed_time(captured_ns)}), which therefore do not tell why"
    findings = "; ".join(f"{one.rule}, up to {time(one.cost_ns)}: {one.title}" for one in found)
    parts = f"{head}; a captured step {signed_time(captured_ns)}: {_parts_words(parts_ns)}"
    return f"{parts}. {findings}" if findings else parts


def _parts_words(parts_ns: Mapping[str, float]) -> str:
    """The largest parts of a difference, and the rest of it."""
    moved = sum(abs(change) for change in parts_ns.values())
    worth = [name for name, change in parts_ns.items() if abs(change) >= _WORTH_A_WORD * moved][:_MOST_PARTS]
    rest_ns = sum(change for name, change in parts_ns.items() if name not in worth)
    rest = [f"{signed_time(rest_ns)} the rest"] if abs(rest_ns) >= _WORTH_A_REST * moved else []
    return enumeration([*(f"{signed_time(parts_ns[name])} {part_name(name)}" for name in worth), *rest])


_NAMES = {"data_loading": "data loading", "other_comm": "other communication", "launch_bound": "launch-bound"}


def part_name(name: str) -> str:
    """A class of the partition, or a group of classes, in words: "exposed all-gather"."""
    words = _NAMES.get(name, name.replace("_", "-"))
    return f"exposed {words}" if group_of(name) == "communication" else words
