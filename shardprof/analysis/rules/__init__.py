"""What to change, and what it would win: one file a diagnosis, found by discovery.

A file provides `find(case)`, which gives a Finding for each symptom that the run has: its evidence, what it costs at
most, the knob of the framework that the run uses, what turning it costs elsewhere, what would disprove it. Nowhere else
in analysis/ knobs of a framework are named. One that needs single events also provides `observe(view)`, which sees each
rank's trace while it is in memory, and finds its Observations again in the case.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from shardprof.analysis.result import Finding, Result
from shardprof.analysis.rules import _exposed
from shardprof.analysis.rules._case import Case
from shardprof.analysis.rules._observing import Observation, Observer


def observer() -> Observer:
    """Takes the view of each rank's trace, for all rules."""
    return Observer([_exposed.observe, *(rule.observe for rule in _rules() if hasattr(rule, "observe"))])


def findings(result: Result, seen: Sequence[Observation] = ()) -> tuple[Finding, ...]:
    """All that was found, what would win most first; what costs memory rather than time comes after it."""
    if result.summary is None or result.summary.steps is None:
        return ()
    case = Case(result=result, steps=result.summary.steps, observations=tuple(seen))
    found = [finding for rule in _rules() for finding in rule.find(case)]
    return tuple(sorted(found, key=lambda finding: -(finding.cost_ns_per_step or 0)))


def _rules() -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]
