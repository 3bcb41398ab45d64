"""What is sampled on a node while the job runs, from the recorder's own process: one file a source, by discovery.

A file provides `open_source`, which returns None where there is nothing of its kind on this machine. A source that
fails is noted in host.json and left out from then on, never more.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from shardprof.trace.schema import CounterRecord, RunFolder, to_json

INTERVAL_NS = 250_000_000

Values = dict[str, dict[str, float]]


class Source(Protocol):
    """What `open_source` returns."""

    name: str

    def sample(self) -> Values:
        """The counters now, by subject ("rank 0", "eth0", "node") and name; names carry units."""


def open_sources(run: RunFolder, host: str, note: Callable[[str], None]) -> list[Source]:
    """The sources that this machine has."""
    sources = []
    for module in pkgutil.iter_modules(__path__):
        try:
            source: Source | None = importlib.import_module(f"{__name__}.{module.name}").open_source(run, host)
        except Exception as error:
            note(f"counters of {module.name} are missing: {error!r}")
            continue
        if source is not None:
            sources.append(source)
    return sources


class Sampler:
    """Appends a CounterRecord a source and interval to `path`, in a thread, from `start` to `stop`."""

    def __init__(self, path: Path, sources: list[Source], note: Callable[[str], None]) -> None:
        self._path = path
        self._sources = sources
        self._note = note
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shardprof-sampler", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further sample."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            with self._path.open("ab", buffering=0) as file:
                while self._sources:
                    for source in list(self._sources):
                        self._append(source, file.write)
                    if self._stopped.wait(INTERVAL_NS / 1e9):
                        return
        except OSError as error:
            self._note(f"counters are missing: {error}")

    def _append(self, source: Source, write: Callable[[bytes], object]) -> None:
        try:
            values = source.sample()
        except Exception as error:
            self._sources.remove(source)
            self._note(f"counters of {source.name} end early: {error!r}")
            return
        record = CounterRecord(time_ns=time.time_ns(), source=source.name, values=values)
        write(f"{to_json(record)}\n".encode())
