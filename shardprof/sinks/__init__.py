"""Where the steps of a run can be seen beside a user's own curves. One file a sink, found by discovery.

A sink is named for its package, which is also the extra that installs it. It runs in the recorder's process or in that
of `shardprof export`, never in a rank.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shardprof.errors import ShardprofError
from shardprof.extras import require
from shardprof.trace.schema import RunFolder

if TYPE_CHECKING:
    from shardprof.sinks._following import StepRow


class Sink(Protocol):
    """What `open_sink(run, target)` of a module in this folder makes. All of it may raise anything.

    `place` tells where the steps can be seen.
    """

    place: str

    def put(self, rank: int, rows: Sequence[StepRow]) -> None:
        """Take further steps of a rank, in order."""

    def close(self) -> None:
        """There are no further ones."""


@dataclass(frozen=True, slots=True)
class Request:
    """A sink that is wanted, and what is said of it after "=": a folder, a project."""

    name: str
    target: str | None


def names() -> list[str]:
    """The sinks that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def requested(texts: Sequence[str]) -> tuple[Request, ...]:
    """The sinks in "NAME" or "NAME=TARGET". ShardprofError where there is no such sink or its package is missing."""
    requests = []
    for text in texts:
        name, _, target = text.partition("=")
        if name not in names():
            raise ShardprofError(f"there is no sink {name}", f"there are {' and '.join(names())}")
        require(name, extra=name)
        requests.append(Request(name, target or None))
    return tuple(requests)


def open_sink(request: Request, run: RunFolder) -> Sink:
    """The sink, ready to take the steps of `run`."""
    module: Any = importlib.import_module(f"{__name__}.{request.name}")
    sink: Sink = module.open_sink(run, request.target)
    return sink
