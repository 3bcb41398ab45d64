"""A run in a few lines of text: for a shell, and for the logs of trainers. Safe to print, whatever the traces hold."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Result
from shardprof.render._view import View, view
from shardprof.words import printable


def verdict_lines(result: Result) -> tuple[str, ...]:
    """The verdict and the key figures. ValueError where the result has no summary."""
    return tuple(map(printable, _verdict(view(result))))


def headline(result: Result) -> tuple[str, ...]:
    """The same with the findings that would win most. ValueError where the result has no summary."""
    told = view(result)
    return tuple(map(printable, (*_verdict(told), *_findings(told))))


def _verdict(told: View) -> Iterator[str]:
    yield told.verdict
    if told.figures:
        yield "   ".join(told.figures)


def _findings(told: View) -> Iterator[str]:
    for number, finding in enumerate(told.findings, 1):
        yield f"{number}  {finding.title}" + (f"  ({finding.wins})" if finding.wins else "")
        yield from (f"   {label}: {text}" for label, text in finding.lines)
