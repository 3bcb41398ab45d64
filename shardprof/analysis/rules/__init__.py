"""What to change, and what it would win: one file a diagnosis, found by discovery.

A file provides `find(case)`, which gives a Finding for each symptom that the run has: its evidence, what it costs at
most, the knob of the framework that the run uses, what turning it costs elsewhere, what would disprove it. Nowhere else
in analysis/ knobs of a framework are named.
"""

from __future__ import annotations

import importlib
import pkgutil

from shardprof.analysis.result import Finding, Result
from shardprof.analysis.rules._case import Case


def findings(result: Result) -> tuple[Finding, ...]:
    """All that was found, what would win most first; what costs memory rather than time comes after it."""
    if result.summary is None or result.summary.steps is None:
        return ()
    case = Case(result=result, steps=result.summary.steps)
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    found = [finding for name in names for finding in importlib.import_module(f"{__name__}.{name}").find(case)]
    return tuple(sorted(found, key=lambda finding: -(finding.cost_ns_per_step or 0)))
