"""What each track of a trace is for: a stream by what runs on it most, a thread by what it does in a training."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS, class_name
from shardprof.trace.events import Events
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import DEVICE_CATEGORIES

_LABELS = ("compute", *map(class_name, COMM_KINDS), class_name("memcpy"), class_name("memset"))
_MEMCPY, _MEMSET = len(COMM_KINDS) + 1, len(COMM_KINDS) + 2
_WORTH_NAMING = 0.2
"""Of a stream's time."""
_BACKWARD = "autograd::engine::evaluate_function"


class Shelf(IntEnum):
    """What stands where among the tracks of a rank; streams take the ten places from theirs on."""

    CLASSES = 0
    PHASES = 1
    FINDINGS = 2
    RECORDED = 3
    STREAMS = 10
    NCCL = 30
    MAIN = 40
    BACKWARD = 41
    TRANSFERS = 42
    OTHER = 43
    PROFILER = 44
    STACKS = 45
    EVENTS = 46


def track_names(trace: KinetoTrace) -> dict[str, tuple[int, str]]:
    """For the tracks ("pid/tid") of which something is known: where they stand, and what they are for."""
    known = _threads(trace)
    for thread, order, words in _streams(trace):
        known[trace.events.threads[thread]] = order, words
    return known


def _streams(trace: KinetoTrace) -> list[tuple[int, int, str]]:
    """Streams in the order of what they do: those that compute first."""
    events = trace.events
    rows = np.flatnonzero(events.in_categories(*DEVICE_CATEGORIES))
    streams, of_row = np.unique(events.thread[rows], return_inverse=True)
    time_ns = np.zeros((len(streams), len(_LABELS)), dtype=np.int64)
    np.add.at(time_ns, (of_row, _label(trace, rows)), events.end_ns[rows] - events.begin_ns[rows])
    return [
        (int(stream), Shelf.STREAMS + int(of.argmax()), _words(of)) for stream, of in zip(streams, time_ns, strict=True)
    ]


def _label(trace: KinetoTrace, rows: Int64s) -> Int64s:
    events = trace.events
    label = np.zeros(len(events), dtype=np.int64)
    label[events.in_categories("gpu_memcpy")] = _MEMCPY
    label[events.in_categories("gpu_memset")] = _MEMSET
    if trace.activities is not None:
        known = trace.activities.collectives.row >= 0
        label[trace.activities.collectives.row[known]] = trace.activities.collectives.kind[known] + 1
    return label[rows]


def _words(time_ns: Int64s) -> str:
    """The labels that a stream spends much of its time on, the largest first."""
    order = np.argsort(-time_ns, kind="stable")
    named = [_LABELS[label] for label in order.tolist() if time_ns[label] >= _WORTH_NAMING * time_ns.sum()]
    return ", ".join(named)


def _threads(trace: KinetoTrace) -> dict[str, tuple[int, str]]:
    """Later ones win: what trains is the main thread, also where it runs backward itself."""
    events = trace.events
    known: dict[str, tuple[int, str]] = {}
    if trace.activities is not None and trace.activities.device == "cpu":
        rows = trace.activities.collectives.row
        known |= {events.threads[thread]: (Shelf.TRANSFERS, "transfers") for thread in _used(events, rows[rows >= 0])}
    nodes = np.flatnonzero(events.named(lambda name: name.startswith(_BACKWARD)))
    known |= {events.threads[thread]: (Shelf.BACKWARD, "backward") for thread in _used(events, nodes)}
    if trace.main_thread is not None:
        known[events.threads[trace.main_thread]] = Shelf.MAIN, "main thread"
    return known


def _used(events: Events, rows: Int64s) -> list[int]:
    threads: list[int] = np.unique(events.thread[rows]).tolist()
    return threads
