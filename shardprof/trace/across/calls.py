"""The communications of all ranks in one table, each on its rank's own clock: what matching them starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.across.gaps import DOING, Gaps, gaps_of
from shardprof.trace.across.peers import between
from shardprof.trace.activities import Activities
from shardprof.trace.collectives import UNKNOWN, Collectives, ProcessGroup
from shardprof.trace.events import Mask
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.run import RankTraces
from shardprof.trace.steps import TIMELINE, StepWindows

_NO_GROUP = ProcessGroup(name="", description="", size=None, ranks=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWindow:
    """What one rank communicated in one trace, and what it did before; times are relative to `base_ns`.

    `clock` names the machine whose clock it has, where that is known.
    """

    rank: int
    clock: str | None
    base_ns: int
    steps: StepWindows
    collectives: Collectives
    gaps: Gaps


def window_of(rank: RankTraces, trace: KinetoTrace, activities: Activities, steps: StepWindows) -> RankWindow:
    """What a rank communicated in one of its traces; calls inside of `steps` count as theirs."""
    return RankWindow(
        rank=rank.rank,
        clock=rank.machine,
        base_ns=trace.base_ns,
        steps=steps,
        collectives=activities.collectives,
        gaps=gaps_of(activities, int(trace.events.begin_ns.min())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """A row a communication of a rank. `group` is an index into `groups`, where those that the traces do not tell are
    one without a name; `step` is the one it was launched in, UNKNOWN outside of all, and `mark` the same where steps
    have numbers that all ranks share. `window` counts captured windows: those of the same steps have one number.
    `doing_ns`, `work` and `exposed_ns` are those of Gaps; `clocks` names the machines whose clock a rank is
    known to have.
    """

    rank: Int64s
    window: Int64s
    step: Int64s
    mark: Int64s
    kind: Int64s
    payload_bytes: Int64s
    wire_bytes: Int64s
    sequence: Int64s
    source: Int64s
    destination: Int64s
    launched_ns: Int64s
    begin_ns: Int64s
    end_ns: Int64s
    group: Int64s
    doing_ns: Int64s
    work: Int64s
    exposed_ns: Int64s
    groups: tuple[ProcessGroup, ...]
    clocks: dict[int, str]

    def __len__(self) -> int:
        return len(self.rank)

    def where(self, rows: Mask | Int64s) -> Calls:
        """Some of the rows."""
        return replace(self, **{column: getattr(self, column)[rows] for column in _COLUMNS})


_COLUMNS = (
    "rank", "window", "step", "mark", "kind", "payload_bytes", "wire_bytes", "sequence", "source", "destination",
    "launched_ns", "begin_ns", "end_ns", "group", "doing_ns", "work", "exposed_ns",
)  # fmt: skip
_OF_COLLECTIVES = ("kind", "payload_bytes", "wire_bytes", "sequence", "source", "destination")
_TIMES = ("launched_ns", "begin_ns", "end_ns")
_OF_GAPS = ("doing_ns", "work", "exposed_ns")


def calls_of(windows: Sequence[RankWindow]) -> Calls:
    """The table, in the order in which each rank launched."""
    groups: dict[ProcessGroup, int] = {}
    columns: dict[str, list[Int64s]] = {column: [] for column in _COLUMNS}
    for window, number in zip(windows, _window_numbers(windows), strict=True):
        order = np.lexsort((window.collectives.begin_ns, window.collectives.launched_ns))
        collectives = window.collectives.where(order)
        for column in _OF_GAPS:
            columns[column].append(getattr(window.gaps, column)[order])
        for column in _OF_COLLECTIVES:
            columns[column].append(getattr(collectives, column))
        for column in _TIMES:
            columns[column].append(getattr(collectives, column) + window.base_ns)
        known = [groups.setdefault(group, len(groups)) for group in (*collectives.groups, _NO_GROUP)]
        columns["group"].append(np.array(known, dtype=np.int64)[collectives.group])  # UNKNOWN takes the last
        columns["rank"].append(np.full(len(collectives), window.rank, dtype=np.int64))
        columns["window"].append(np.full(len(collectives), number, dtype=np.int64))
        step = _steps(collectives.launched_ns, window.steps)
        columns["step"].append(step)
        columns["mark"].append(step if _is_marked(window) else np.full(len(step), UNKNOWN, dtype=np.int64))
    nothing = {name: np.empty((0, len(DOING)) if name == "doing_ns" else 0, dtype=np.int64) for name in _COLUMNS}
    joined = {name: np.concatenate([nothing[name], *parts]) for name, parts in columns.items()}
    joined["source"], joined["destination"] = between(
        joined["rank"], joined["source"], joined["destination"], joined["group"], tuple(groups)
    )
    clocks = {window.rank: window.clock for window in windows if window.clock is not None}
    return Calls(**joined, groups=tuple(groups), clocks=clocks)


def _is_marked(window: RankWindow) -> bool:
    """Do its steps have the training's own numbers, rather than being counted from 0?"""
    return window.steps.source in ("ProfilerStep", "recorded marks", TIMELINE) and len(window.steps.numbers) > 0


def _window_numbers(windows: Sequence[RankWindow]) -> list[int]:
    """Windows whose numbered steps overlap are one; of those whose steps nobody numbered the n-th ones of each rank."""
    seen: dict[int, int] = {}
    numbers = [0] * len(windows)
    marked = []
    for i, window in enumerate(windows):
        if _is_marked(window):
            marked.append((min(window.steps.numbers), max(window.steps.numbers), i))
        else:
            numbers[i] = seen[window.rank] = seen.get(window.rank, -1) + 1
    number, last_step = max(seen.values(), default=-1), -1
    for first, last, i in sorted(marked):
        if first > last_step:
            number += 1
        last_step = max(last, last_step)
        numbers[i] = number
    return numbers


def _steps(launched_ns: Int64s, steps: StepWindows) -> Int64s:
    """The number of the step in which each was launched."""
    order = np.argsort(steps.windows[:, 0], kind="stable")
    windows = steps.windows[order]
    position = np.searchsorted(windows[:, 0], launched_ns, side="right") - 1
    inside = position >= 0
    inside[inside] = launched_ns[inside] < windows[position[inside], 1]
    numbers = np.full(len(launched_ns), UNKNOWN, dtype=np.int64)
    numbers[inside] = np.array(steps.numbers, dtype=np.int64)[order][position[inside]]
    return numbers
