"""What of a report belongs into the timeline: its findings and notices where they show, the ranks that matter most."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Evidence, Finding, Result
from shardprof.trace.timeline.remarks import Remark
from shardprof.words import duration


def remarks(result: Result) -> tuple[Remark, ...]:
    """Findings at each place that shows them, or else at the first step of the first rank; notices on their node."""
    found = [remark for finding in result.findings or () for remark in _of_finding(finding, result)]
    noticed = [
        Remark(title=notice.message, time_ns=notice.begin_ns, host=notice.host, text={"code": notice.code})
        for notice in result.notices
    ]
    return (*found, *noticed)


def first_ranks(result: Result) -> tuple[int, ...]:
    """The ranks that are worth looking at, the most telling first: the late ones, those that findings name, the
    slowest, the median and the fastest one."""
    late = [straggler.rank for straggler in result.stragglers or ()]
    named = [evidence.rank for finding in result.findings or () for evidence in finding.evidence]
    summary = result.summary
    usual = [summary.steps.slowest.rank, summary.steps.median.rank] if summary and summary.steps else []
    marked = [rank.rank for rank in summary.ranks if rank.remark] if summary else []
    ranks = (*late, *(rank for rank in named if rank is not None), *usual, *marked)
    return tuple(dict.fromkeys(ranks))


def _of_finding(finding: Finding, result: Result) -> Iterator[Remark]:
    """One a place: the same place of several pieces of evidence carries all of them."""
    places: dict[tuple[int, int], list[str]] = {}
    for evidence in finding.evidence:
        if (place := _place(evidence, result)) is not None:
            places.setdefault(place, []).append(evidence.message)
    for (rank, time_ns), messages in places.items():
        yield Remark(title=finding.title, time_ns=time_ns, rank=rank, text=_text(finding, messages))


def _place(evidence: Evidence, result: Result) -> tuple[int, int] | None:
    """The rank and the time that show it; where it has none the begin of its step, of any step, of the first rank."""
    steps = [(rank.rank, step) for rank in result.ranks for step in rank.steps if evidence.rank in (None, rank.rank)]
    if evidence.rank is not None and evidence.begin_ns is not None:
        return evidence.rank, evidence.begin_ns
    own = [(rank, step) for rank, step in steps if evidence.step in (None, step.step)] or steps
    return (own[0][0], own[0][1].begin_ns) if own else None


def _text(finding: Finding, messages: list[str]) -> dict[str, str]:
    cost = "" if finding.cost_ns_per_step is None else f"up to {duration(finding.cost_ns_per_step)} a step"
    told = {
        "cost": cost,
        "evidence": "; ".join(messages),
        "do": finding.advice,
        "knob": finding.knob,
        "price": finding.side_effect,
        "disproof": finding.disproof,
        "rule": finding.rule,
    }
    return {name: text for name, text in told.items() if text}
