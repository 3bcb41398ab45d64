"""From a Result to something to read. One file an output, found by discovery; an output prints and never computes."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, TextIO, cast

from shardprof.analysis.result import Result


class Output(Protocol):
    """What a module in this folder provides; its name is the name of the format."""

    def render(self, result: Result, out: TextIO, focus: str = "report") -> None:
        """Write the report to `out`, or of it what is asked for: "stragglers"."""


def formats() -> list[str]:
    """The names of the outputs."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def output(name: str) -> Output:
    """The output of that name."""
    return cast(Output, importlib.import_module(f"{__name__}.{name}"))
