"""What to change, and what it would win: one file a diagnosis, found by discovery.

A file provides `find(case)`, which gives a Finding for each symptom that the run has: its evidence, what it costs at
most, the knob of the framework that the run uses, what turning it costs elsewhere, what would disprove it. Nowhere else
in analysis/ knobs of a framework are named. One that needs single events also provides `observe(view)`, which sees each
rank's trace while it is in memory, and finds its Observations again in the case.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType

from shardprof.analysis.result import Finding, Result
from shardprof.analysis.rules import _exposed
from shardprof.analysis.rules._case import Case
from shardprof.analysis.rules._moving import without_waiting
from shardprof.analysis.rules._observing import Observer
from shardprof.analysis.together import Together


def observer() -> Observer:
    """Takes the view of each rank's trace, for all rules."""
    return Observer([_exposed.observe, *(rule.observe for rule in _rules() if hasattr(rule, "observe"))])


def with_findings(result: Result, observer: Observer, ranks: Together | None) -> Result:
    """The report with all that was found, what would win most first; what costs memory rather than time comes after it.
    Where costs rest on the replay of a rank that is doubted, the doubt is told. `ranks` are several that were compared.
    """
    if result.summary is None or result.summary.steps is None:
        return replace(result, findings=())
    seen = without_waiting(observer.seen, ranks) if ranks else observer.seen
    case = Case(result=result, steps=result.summary.steps, observations=tuple(seen))
    found, replayed = list[Finding](), set[int]()
    for rule in _rules():
        case.replayed.clear()
        of_rule = list(rule.find(case))
        found += of_rule
        if any(finding.cost_ns_per_step is not None for finding in of_rule):
            replayed |= case.replayed
    doubts = [doubt for rank, doubt in observer.doubts.items() if rank in replayed]
    by_cost = sorted(found, key=lambda finding: -(finding.cost_ns_per_step or 0))
    return replace(result, findings=tuple(by_cost), quality=(*result.quality, *doubts))


def _rules() -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]
