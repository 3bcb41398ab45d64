"""What is sampled on a node while the job runs, from the recorder's own process: one file a source, by discovery.

A file provides `open_source`, which returns None where there is nothing of its kind on this machine. `sampler.py`
asks the sources in turn; one that fails is noted in host.json and left out from then on, never more.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.trace.schema import Device

Values = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at one moment, by subject ("rank 0", "gpu 3", "eth0", "node") and name; names carry units.

    `events` is what has happened to a subject since the sample before ("throttle: hw_thermal", "xid 79").
    """

    values: Values
    events: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Source(Protocol):
    """What `open_source` returns."""

    name: str
    interval_ns: int
    """How often it is worth being asked while steps are captured."""
    devices: tuple[Device, ...]
    """What its subjects are, where they are devices."""

    def sample(self) -> Sample:
        """The counters now. Whatever it raises ends the source."""

    def close(self) -> None:
        """There will be no further sample."""


def open_sources(ranks: NodeRanks, note: Callable[[str], None]) -> list[Source]:
    """The sources that this machine has."""
    sources = []
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):
            continue
        try:
            source: Source | None = importlib.import_module(f"{__name__}.{module.name}").open_source(ranks)
        except Exception as error:
            note(f"counters of {module.name} are missing: {error!r}")
            continue
        if source is not None:
            sources.append(source)
    return sources
