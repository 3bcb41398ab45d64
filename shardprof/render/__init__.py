"""From a Result to something to read. One file an output, found by discovery; an output prints and never computes."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, TextIO, cast, runtime_checkable

from shardprof.analysis.result import Result


class Output(Protocol):
    """What a module in this folder provides; its name is the name of the format."""

    def render(self, result: Result, out: TextIO, focus: str = "report") -> None:
        """Write the report to `out`, or of it what is asked for: "stragglers"."""


@runtime_checkable
class FolderOutput(Protocol):
    """What it provides instead where the output is several files."""

    def render_folder(self, result: Result, folder: Path) -> None:
        """Write them into `folder`, all or none."""


@runtime_checkable
class Demanding(Protocol):
    """What it provides besides where it cannot always be written."""

    def check(self, focus: str = "report") -> None:
        """Raises ShardprofError, before anything takes time, where `focus` or what is installed does not let it."""


def formats() -> list[str]:
    """The names of the outputs."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def output(name: str) -> Output | FolderOutput:
    """The output of that name."""
    return cast("Output | FolderOutput", importlib.import_module(f"{__name__}.{name}"))
