"""What to change, as words: the first few for the report, all with what shows them for `--findings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardprof.analysis.result import Evidence, Finding, Result
from shardprof.words import duration

_MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingText:
    """A finding: its title, what it would win ("" where that is no time), and lines with a label each."""

    title: str
    wins: str
    lines: tuple[tuple[str, str], ...]


def top_findings(result: Result) -> tuple[FindingText, ...]:
    """Those that would win most, with what to do."""
    is_known = bool(result.source.framework)
    return tuple(_text(finding, _do(finding, with_knob=is_known)) for finding in (result.findings or ())[:_MOST])


def all_findings(result: Result) -> tuple[FindingText, ...]:
    """All of them, with evidence, price and what would disprove them."""
    begins_ns = step_begins(result)
    return tuple(
        _text(
            finding,
            (
                *(("because", placed(evidence, begins_ns)) for evidence in finding.evidence),
                ("do", finding.advice),
                ("knob", finding.knob),
                ("price", finding.side_effect),
                ("unless", finding.disproof),
            ),
            f"{finding.rule}, {finding.severity}",
        )
        for finding in result.findings or ()
    )


def step_begins(result: Result) -> dict[tuple[int, int], int]:
    """When each step began, by rank and number."""
    return {(rank.rank, step.step): step.begin_ns for rank in result.ranks for step in rank.steps}


def placed(evidence: Evidence, begins_ns: Mapping[tuple[int, int], int]) -> str:
    """Evidence with where the timeline shows it."""
    if evidence.rank is None or evidence.step is None or evidence.begin_ns is None or evidence.end_ns is None:
        return evidence.message
    begin_ns = begins_ns.get((evidence.rank, evidence.step), evidence.begin_ns)
    # 0.0 is added since what comes just before the step would be "-0.00".
    first, last = (round((time_ns - begin_ns) / 1e6, 2) + 0.0 for time_ns in (evidence.begin_ns, evidence.end_ns))
    return f"{evidence.message}: {first:,.2f} to {last:,.2f} ms into step {evidence.step} on rank {evidence.rank}"


def _text(finding: Finding, lines: tuple[tuple[str, str], ...], remark: str = "") -> FindingText:
    cost_ns = finding.cost_ns_per_step
    wins = f"up to -{duration(cost_ns)} a step" if cost_ns else ""
    return FindingText(title=finding.title, wins=", ".join(filter(None, (wins, remark))), lines=lines)


def _do(finding: Finding, *, with_knob: bool) -> tuple[tuple[str, str], ...]:
    """What to do; the knobs of frameworks that the run may not use are left to `--findings`."""
    return ("do", finding.advice), *((("knob", finding.knob),) if with_knob else ())
