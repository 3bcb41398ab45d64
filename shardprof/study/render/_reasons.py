"""The sections on why and whether: decisions, causes, hypotheses, failures, fairness, what is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from shardprof.render._tables import Table
from shardprof.study.conclusions.causes import BEST, part_name
from shardprof.study.conclusions.criteria import MEMORY, NETWORK, THROUGHPUT
from shardprof.study.conclusions.decisions import COMPROMISE
from shardprof.study.conclusions.phrases import rate, signed_time, time
from shardprof.study.conclusions.study_report import Cause, CellFigures, Claim, Decision, Estimate, StudyReport
from shardprof.study.render._section import Section
from shardprof.study.render._situations import situations_words
from shardprof.study.render._tables import MISSING, axes_of, situations_of, table, times_words, title_of
from shardprof.words import numbers, plural, size

_MOST_FIGURES = 3
_MOST_EVIDENCE = 3
_MOST_CAUSES = 5
_MOST_PARTS = 3
_HYPOTHESES = "Said of FSDP and DeepSpeed"
_SCALING = "scaling_efficiency"
"""The metric that no training has by itself."""
_FIGURES: Mapping[str, tuple[Callable[[CellFigures], Estimate | None], Callable[[float], str], str]] = {
    THROUGHPUT: (lambda cell: cell.samples_per_s, rate, " samples/s"),
    MEMORY: (lambda cell: cell.memory_bytes, size, ""),
    NETWORK: (lambda cell: cell.network_bytes, size, " sent a step"),
}
"""What stands for each role, and how it is written."""


def decisions(report: StudyReport) -> Section:
    """Which configuration for what."""
    rows = []
    before = ""
    for decision in report.decisions:
        name, before = decision.name if decision.name != before else "", decision.name
        rows.append((name, decision.best_for, _when(report, decision), _figure_words(report, decision)))
    columns = ("configuration", "best for", "when", "figures")
    return Section(
        title="Which to take",
        tables=(("", table(columns, rows, columns)),) if rows else (),
        notes=(
            "derived: configurations that no other one beats in throughput, memory, network bytes and finished trials "
            "together; what intervals do not tell apart counts as equal",
        ),
    )


def _when(report: StudyReport, decision: Decision) -> str:
    """In which situations."""
    everywhere = len(decision.situations) == len(situations_of(report))
    return "always" if everywhere else situations_words(decision.situations, axes_of(report))


def _figure_words(report: StudyReport, decision: Decision) -> str:
    """The figures of each situation; of many, from the least to the most."""
    if len(decision.figures) <= _MOST_FIGURES:
        return "; ".join(decision.figures)
    cells = [cell for cell in report.cells if cell.name == decision.name and cell.situation in decision.situations]
    roles = [role for role in _FIGURES if decision.best_for in (role, COMPROMISE)]
    return ", ".join(filter(None, (_range_words(cells, role) for role in roles)))


def _range_words(cells: Sequence[CellFigures], role: str) -> str:
    shown, written, unit = _FIGURES[role]
    values = [estimate.value for cell in cells if (estimate := shown(cell))]
    low, high = (written(end(values)) for end in (min, max)) if values else ("", "")
    return (low if low == high else f"{low} to {high}") + unit if values else ""


def causes(report: StudyReport) -> Iterator[Section]:
    """Why cells are slower than the best of their situation; in detail, than the next faster one too."""
    for ranking in report.rankings:
        own = [cause for cause in report.causes if cause.situation == ranking.situation]
        at = title_of(report, ranking.situation)
        if own:
            yield Section(
                title="Why" + (f", {at}" if at else ""),
                lines=tuple(cause.sentence for cause in own if cause.against == BEST),
                tables=(("", _causes_table(own)),),
                legend={
                    "longer": "step time by that of the faster one",
                    "consists of": "the difference of the mean captured steps, its largest parts; all parts sum to it",
                },
                detail=True,
                most_lines=_MOST_CAUSES,
            )


def _causes_table(causes: list[Cause]) -> Table:
    rows = [
        (
            cause.slower,
            cause.faster,
            times_words(cause.ratio) + ("" if cause.is_told else ", not told apart"),
            MISSING if cause.captured_ns is None else signed_time(cause.captured_ns),
            ", ".join(
                f"{signed_time(ns)} {part_name(name)}" for name, ns in list(cause.parts_ns.items())[:_MOST_PARTS]
            ),
            ", ".join(f"{one.rule} {time(one.cost_ns)}" for one in cause.findings),
        )
        for cause in causes
    ]
    columns = ("configuration", "against", "longer", "captured", "consists of", "findings")
    return table(
        columns, rows, {"configuration", "against", "longer", "consists of", "findings"}, ("findings", "captured")
    )


def hypotheses(report: StudyReport) -> Section:
    """What is said of FSDP and DeepSpeed, and what this study says to it."""
    if not any(cell.finished and cell.diverged_at is None for cell in report.cells):
        return Section(title=_HYPOTHESES)
    rows = []
    lines = []
    for number, hypothesis in enumerate(report.hypotheses, 1):
        needs = f" It would need {hypothesis.needs}." if hypothesis.needs else ""
        lines.append(f"{number}. {hypothesis.text}: {hypothesis.verdict}.{needs}")
        rows += [
            (str(number) if not index else "", claim.text, _verdict_words(claim), _evidence_words(claim))
            for index, claim in enumerate(hypothesis.claims)
        ]
    columns = ("", "claim", "here", "figures")
    return Section(
        title=_HYPOTHESES,
        lines=tuple(lines),
        tables=(("", table(columns, rows, columns)),),
        legend={"here": "and how many cells or pairs of cells speak for it"},
    )


def _verdict_words(claim: Claim) -> str:
    return f"{claim.verdict} ({claim.speak_for} of {claim.cases})" if claim.cases else f"{claim.verdict} (no cells)"


def _evidence_words(claim: Claim) -> str:
    more = len(claim.evidence) - _MOST_EVIDENCE
    return "; ".join([*claim.evidence[:_MOST_EVIDENCE], *([f"{more} more"] if more > 0 else [])])


def failures(report: StudyReport) -> Section:
    """Every trial that did not finish, and how often what failed."""
    failed = [
        (one.name, title_of(report, one.situation), numbers(one.repeats), one.status, one.reason)
        for one in report.failures
    ]
    ended = [
        (
            one.name,
            f"{one.finished} of {one.trials}",
            MISSING if one.errors_per_hour is None else rate(one.errors_per_hour),
        )
        for one in report.robustness
        if one.finished < one.trials or one.errors_per_hour
    ]
    columns = ("configuration", "at", "repeats", "ended", "reason")
    tables = [("", table(columns, failed, {"configuration", "at", "ended", "reason"}))] if failed else []
    tables += [("", table(("configuration", "finished", "errors/h"), ended, {"configuration"}))] if ended else []
    said = ("Every trial finished.",) if report.cells and not failed else ()
    measured = [one.errors_per_hour for one in report.robustness if one.errors_per_hour is not None]
    quiet = ("No errors were counted while jobs ran.",) if measured and not any(measured) else ()
    return Section(title="Failures and errors", lines=(*said, *quiet), tables=tuple(tables))


def fairness(report: StudyReport) -> Section:
    """What is alike, and what is not."""
    fair = report.fairness
    lines = [f"{plural(fair.pairs, 'pair')} of cells that differ in strategy or knobs only were checked."]
    lines += [f"Equal in every pair: {', '.join(fair.equal)}."] if fair.equal else []
    lines += [f"Not told, so not checked: {', '.join(fair.not_told)}."] if fair.not_told else []
    lines += [f"Changed from trial to trial: {', '.join(fair.changed)}."] if fair.changed else []
    rows = [(one.severity, one.subject, plural(one.pairs, "pair"), one.message) for one in fair.unequal]
    columns = ("severity", "subject", "of", "what is unequal")
    tables = (("", table(columns, rows, columns)),) if rows else ()
    return Section(title="Is it fair", lines=tuple(lines) if fair.pairs or fair.changed else (), tables=tables)


def setting(report: StudyReport) -> Section:
    """On what it was measured, and what was not."""
    facts = report.head.environment
    reasons: dict[str, list[str]] = defaultdict(list)
    for cell in report.cells:
        for name, told in cell.missing.items():
            reason = "no cells differ in their ranks only" if name == _SCALING else told
            if name not in reasons[reason]:
                reasons[reason].append(name)
    known = {name for cell in report.cells for name in cell.figures} | ({_SCALING} if report.scaling else set())
    rows = [(", ".join(names), reason) for reason, all_names in reasons.items()
            if (names := [name for name in all_names if name not in known])]  # fmt: skip
    tables = (
        [("", table(("fact", "the same in all trials"), facts.items(), {"fact", "the same in all trials"}))]
        if facts
        else []
    )
    tables += [("", table(("not measured", "why"), rows, {"not measured", "why"}))] if rows else []
    return Section(title="Measured on", tables=tuple(tables), detail=True)
