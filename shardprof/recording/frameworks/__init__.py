"""What trains the model: one file a framework, found by discovery.

A file names the module whose import means that the framework may be used (`MODULE`) and installs its patches then
(`install`): where forward begins and ends, what ends a step if the optimizer does not, and `describe`, which reads the
settings. A rank is described by the framework whose forward was the outermost one.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent


class Framework(Protocol):
    """What a file in this folder provides."""

    MODULE: str

    def install(self, agent: Agent) -> None:
        """Patch the framework; `MODULE` has been imported."""


def discover() -> list[Framework]:
    """The frameworks known."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [cast(Framework, importlib.import_module(f"{__name__}.{name}")) for name in names]
