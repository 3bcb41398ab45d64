"""What became of limits: a line each for people and for GitHub's log, and JUnit's XML for other CI systems."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from shardprof.analysis.comparing.limits import COUNT, SHARE, SIZE, Judgement
from shardprof.words import duration, printable, size

_STATES = {True: "exceeded", None: "unknown", False: "kept"}
_ORDER = list(_STATES)


def lines(judgements: Sequence[Judgement]) -> list[str]:
    """A line a limit, exceeded ones first, then those whose figure was not measured."""
    ordered = sorted(judgements, key=lambda judgement: _ORDER.index(judgement.exceeded))
    return [f"{_STATES[judgement.exceeded]:<8}  {printable(sentence(judgement))}" for judgement in ordered]


def github_annotations(judgements: Sequence[Judgement]) -> list[str]:
    """Workflow commands that show what was not kept beside the run on GitHub."""
    return [
        f"::error title={_property(f'shardprof: {judgement.limit.name} {_STATES[judgement.exceeded]}')}"
        f"::{_data(printable(sentence(judgement)))}"
        for judgement in judgements
        if judgement.exceeded is not False
    ]


def junit(judgements: Sequence[Judgement]) -> bytes:
    """The file of a JUnit test suite in which each limit is a test."""
    failures = sum(judgement.exceeded is True for judgement in judgements)
    errors = sum(judgement.exceeded is None for judgement in judgements)
    counts = {"tests": str(len(judgements)), "failures": str(failures), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "shardprof check", **counts})
    for judgement in judgements:
        name = f"{'max' if judgement.limit.at_most else 'min'} {judgement.limit.text}"
        case = ElementTree.SubElement(suite, "testcase", {"classname": "shardprof.check", "name": printable(name)})
        if judgement.exceeded is not False:
            kind = "failure" if judgement.exceeded else "error"
            ElementTree.SubElement(case, kind, {"message": printable(sentence(judgement))})
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def sentence(judgement: Judgement) -> str:
    """The figure, its limit and, of a relative one, the baseline's figure and whether it is beyond by chance."""
    limit = judgement.limit
    if judgement.value is None or judgement.bound is None:
        return f"{limit.name}: {judgement.why}"
    bound = "at most" if limit.at_most else "at least"
    told = f"{limit.name} is {_figure(judgement, judgement.value)}, {bound} {_figure(judgement, judgement.bound)}"
    if judgement.before is None:
        return told
    allowed = limit.text.partition("=")[2].partition("@")[0]
    told += f", {_figure(judgement, judgement.before)} in {limit.baseline} and {allowed}"
    if judgement.before and judgement.dimension != SHARE:
        told += f"; it changed by {100 * (judgement.value / judgement.before - 1):+.1f} %"
    lies = judgement.change_interval
    told += f" (95 %: {100 * lies.low:+.1f} % to {100 * lies.high:+.1f} %)" if lies else ""
    return told + ("; that it is beyond may be chance" if judgement.by_chance else "")


def _figure(judgement: Judgement, value: float) -> str:
    if judgement.dimension == SHARE:
        return f"{100 * value:.1f} %"
    if judgement.dimension == COUNT:
        return f"{value:,.10g}"
    return size(value) if judgement.dimension == SIZE else duration(value)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
