"""A report as a page: which sections, in which order, in the words of the terminal."""

from __future__ import annotations

from shardprof.analysis.result import GROUPS, Finding, Result, Summary
from shardprof.render._findings import FindingText, all_findings
from shardprof.render._html import communication, machines, over_time, steps, volumes, waits
from shardprof.render._html.page import Found, Page, Section, Tile
from shardprof.render._view import AS_PAGE, GROUP_NAMES, view
from shardprof.render._words import percent
from shardprof.trace.classes import class_name
from shardprof.words import duration

_WORTH_A_TILE = 0.01
_TO_DO = ("do", "knob")
_MISSING = {
    "communication": "Communication: no captured step holds any.",
    "time": 'Memory and counters over time: only "shardprof record" samples them, and there are none.',
    "volumes": 'Volumes against theory: they take settings of model and strategy as "shardprof record" notes them.',
    "nccl": "NCCL's own account: it was not asked, or told nothing.",
}
"""What is said of a section that is not there, by its name."""


def page_of(result: Result) -> Page:
    """The page of a Result. ValueError where it has no summary."""
    words, summary = view(result), result.summary
    if summary is None:
        raise ValueError("a report is summarised before it is shown")
    sections = (
        _findings(result),
        steps.section(result, summary, words.groups, words.slowest),
        communication.section(result.collectives, summary),
        waits.section(result, words.late),
        communication.nccl_section(result.nccl),
        over_time.section(result.series),
        volumes.section(result.volumes, words.volume),
        machines.section(result, words.links, words.notices),
        machines.quality_section(result, words.doubts),
    )
    return Page(
        title=words.title,
        kind="shardprof report",
        about=words.about,
        verdict=words.verdict,
        warning="",
        tiles=_tiles(summary),
        sections=sections,
        missing=_missing(result, sections),
        next_commands=tuple(command for command in words.next_commands if command[1] != AS_PAGE),
    )


def _tiles(summary: Summary) -> tuple[Tile, ...]:
    """The key figures of the terminal, a tile each."""
    steps = summary.steps
    if steps is None:
        return ()
    median, slowest = duration(steps.median.wall_ns), duration(steps.slowest.wall_ns)
    told = [group for group in GROUPS if steps.share(group) >= _WORTH_A_TILE]
    return (
        Tile(label=f"median {summary.window}", value=median, remark=f"slowest {slowest}" if slowest != median else ""),
        *(
            Tile(
                label=GROUP_NAMES.get(group, class_name(group)),
                value=duration(steps.groups_ns[group] / steps.count),
                remark=f"{percent(steps.share(group))} of a {summary.window}",
            )
            for group in told
        ),
    )


def _findings(result: Result) -> Section:
    texts = all_findings(result)
    found = tuple(_found(*pair) for pair in zip(result.findings or (), texts, strict=True))
    lines = ("No rule found anything to change.",) if result.findings is not None and not found else ()
    return Section(name="findings", short="Findings", title="What to change", findings=found, lines=lines)


def _found(finding: Finding, text: FindingText) -> Found:
    return Found(
        severity=finding.severity,
        title=finding.title,
        wins=text.wins.removesuffix(f", {finding.severity}"),
        do=tuple(line for line in text.lines if line[0] in _TO_DO),
        more=tuple(line for line in text.lines if line[0] not in _TO_DO),
    )


def _missing(result: Result, sections: tuple[Section, ...]) -> tuple[str, ...]:
    """Why sections are not there, of those that someone may look for."""
    reasons = {**_MISSING, "waits": f"Waits between ranks: {waits.why_none(result)}."}
    there = {section.name for section in sections if section}
    on_gpu = any(rank.device == "cuda" for rank in result.ranks)
    return tuple(why for name, why in reasons.items() if name not in there and (on_gpu or name != "nccl"))
