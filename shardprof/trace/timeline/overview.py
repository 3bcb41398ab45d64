"""What is known of a rank before any of its events is written: its steps and their classes, what its tracks are for,
how many events there are. Every trace is read once for it, by the engine, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shardprof.engine import NOTHING, Int64s
from shardprof.trace.across.calls import RankWindow, window_of
from shardprof.trace.activities import Activities
from shardprof.trace.classes import CLASSES, class_name
from shardprof.trace.files import Place
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.phases import phases_of
from shardprof.trace.quality import Quality
from shardprof.trace.run import RankTraces, Run
from shardprof.trace.schema import STACKS_FILE
from shardprof.trace.steps import StepWindows, find_steps
from shardprof.trace.timeline.class_pieces import StoredPieces, class_pieces, phase_pieces
from shardprof.trace.timeline.sorted_rows import RowStore
from shardprof.trace.timeline.track_names import track_names

_NAMES = tuple(map(class_name, CLASSES[:-1]))
_MISSING = ("unreadable_trace", "truncated_trace", "lost_events", "zero_timestamps")
"""Doubts about what is not there; others are the report's."""
KEPT_WHEN_SLIM = (*DEVICE_CATEGORIES, "gpu_user_annotation", "user_annotation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One trace of a rank; times are relative to `base_ns`.

    `tracks` are the places and names of its tracks, `calls` what it communicated, `call_tracks` on which track, in the
    order of `across.calls`. `slim_events` are those that are left where operators are left out.
    """

    file: Place
    base_ns: int
    first_ns: int
    events: int
    slim_events: int
    steps: StepWindows
    classes: StoredPieces
    phases: StoredPieces
    tracks: dict[str, tuple[int, str]]
    calls: RankWindow | None
    call_tracks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOverview:
    """One rank: what was always recorded of it (`told`, without its traces), its traces, its sampled stacks."""

    told: RankTraces
    windows: tuple[Window, ...]
    stacks: Path | None
    role: str | None

    @property
    def rank(self) -> int:
        """Its number."""
        return self.told.rank


def overviews(run: Run, store: RowStore, doubts: list[Quality]) -> Iterator[RankOverview]:
    """Every rank; what is missing of its traces is appended to `doubts`."""
    folders = {source.rank: source.steps_file.parent for source in run.sources if source.steps_file}
    for rank in run.ranks(doubts):
        doubts += [doubt for doubt in rank.quality if doubt.code in _MISSING]
        stacks = folders[rank.rank] / STACKS_FILE if rank.rank in folders else None
        yield RankOverview(
            told=replace(rank, traces=()),
            windows=tuple(_window(rank, trace, store) for trace in rank.traces if len(trace.events)),
            stacks=stacks if stacks and stacks.exists() else None,
            role=next((trace.role for trace in rank.traces), None),
        )


def _window(rank: RankTraces, trace: KinetoTrace, store: RowStore) -> Window:
    events, activities, steps = trace.events, trace.activities, find_steps(trace, rank.steps)
    classes = activities.by_precedence() if activities else []
    phases = phases_of(events, steps.windows)
    return Window(
        file=trace.path,
        base_ns=trace.base_ns,
        first_ns=int(events.begin_ns.min()),
        events=len(events),
        slim_events=int(events.in_categories(*KEPT_WHEN_SLIM).sum()) or len(events),
        steps=steps,
        classes=class_pieces(classes, _NAMES, steps.windows).put(store),
        phases=phase_pieces(phases, activities.data_loading if activities else NOTHING).put(store),
        tracks=track_names(trace),
        calls=window_of(rank, trace, activities, steps) if activities else None,
        call_tracks=_call_tracks(trace, activities) if activities else (),
    )


def _call_tracks(trace: KinetoTrace, activities: Activities) -> tuple[str, ...]:
    calls = activities.collectives
    rows: Int64s = calls.row[np.lexsort((calls.begin_ns, calls.launched_ns))]
    return tuple(trace.events.threads[trace.events.thread[row]] if row >= 0 else "" for row in rows.tolist())
