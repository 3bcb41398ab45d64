"""A study's report from top to bottom, for all outputs: the head and its sections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.study.conclusions.groups import family
from shardprof.study.conclusions.study_report import Head, StudyReport
from shardprof.study.render import _axes, _costs, _learning, _reasons, _speed
from shardprof.study.render._section import Section
from shardprof.study.results import FINISHED
from shardprof.words import plural

_FACTS = ("cpu", "cpu cores", "torch", "deepspeed", "commit")
_PLAIN = ("accumulation 1", "no checkpointing")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The head: `about` are short facts, `answer` sentences, `sureness` what intervals rest on. Then `sections`."""

    title: str
    about: tuple[str, ...]
    answer: tuple[str, ...]
    sureness: str
    sections: tuple[Section, ...]


def view_of(report: StudyReport) -> View:
    """The words for a study's report."""
    return View(
        title=", ".join(report.head.studies) or "no study",
        about=tuple(_about(report.head)),
        answer=report.head.answer,
        sureness=f"How sure: {_repeats_words(report.head)}; {report.head.sureness}." if report.rankings else "",
        sections=tuple(section for section in _sections(report) if section),
    )


def _about(head: Head) -> Iterator[str]:
    finished = head.trials.get(FINISHED, 0)
    total = sum(head.trials.values()) + head.left
    yield f"{finished} of {plural(total, 'trial')} finished"
    if head.left:
        yield f"{head.left:,} not run yet"
    yield from (f"{count} {status}" for status, count in head.trials.items() if status != FINISHED)
    yield f"{plural(head.cells, 'cell')}"
    yield f"{head.hours:.1f} h" if head.hours >= 1 else f"{60 * head.hours:.0f} min"
    yield from (word for word in head.shared.values() if word not in _PLAIN)
    names = head.varied.get("configuration", ())
    families = dict.fromkeys(family(name) for name in names)
    yield f"{plural(len(names), 'configuration')} of {', '.join(families)}" if names else "no configuration"
    yield from (", ".join(told) for axis, told in head.varied.items() if axis != "configuration")
    if head.on_gpu is not None:
        yield "GPUs" if head.on_gpu else "CPUs only"
    yield from (f"{name} {head.environment[name]}" for name in _FACTS if name in head.environment)


def _repeats_words(head: Head) -> str:
    least, most = head.repeats
    return (
        f"{plural(most, 'repeat')} of each cell" if least == most else f"{least} to {most} finished repeats of a cell"
    )


def _sections(report: StudyReport) -> Iterator[Section]:
    """The most important first."""
    yield _reasons.decisions(report)
    yield _speed.throughput(report)
    yield _axes.by_fabric(report)
    yield _axes.against_axes(report)
    yield _reasons.hypotheses(report)
    yield _speed.composition(report)
    yield _costs.scaling(report)
    yield _costs.memory_and_network(report)
    yield _learning.learning(report)
    yield _reasons.failures(report)
    yield _reasons.fairness(report)
    yield from _reasons.causes(report)
    yield _reasons.setting(report)
