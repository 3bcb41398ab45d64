"""One captured window: torch.profiler from its preparation to the exported trace, and what comes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch.profiler import ProfilerActivity
from torch.profiler.profiler import _KinetoProfile

from shardprof.recording.rank import groups
from shardprof.recording.rank.other_profilers import OtherProfilers
from shardprof.recording.rank.ranges import Range
from shardprof.recording.rank.schedule import PlannedWindow
from shardprof.trace.schema import CapturePlan


class Companion(Protocol):
    """Something that is there while a window is recorded only: ranges of a framework, a history of allocations."""

    def install(self) -> None:
        """Recording begins."""

    def remove(self) -> None:
        """It is over; also called where it never began."""


class OpenWindow:
    """A window from its preparation on. `recording` is True while the profiler records."""

    def __init__(
        self, planned: PlannedWindow, plan: CapturePlan, companions: Sequence[Companion], others: OtherProfilers
    ) -> None:
        self.planned = planned
        self.recording = False
        self._companions = companions
        self._step_range: Range | None = None
        self._profiler = _prepared(plan, others)

    def start(self) -> None:
        """Record from here on."""
        for companion in self._companions:
            companion.install()
        self._profiler.start_trace()
        self.recording = True

    def begin_step(self, step: int) -> None:
        """Step `step` begins, and has a range if it is recorded."""
        if self.recording:
            self._step_range = Range(f"ProfilerStep#{step}")

    def end_step(self) -> None:
        """The step in progress ends."""
        step_range, self._step_range = self._step_range, None
        if step_range is not None:
            step_range.close()

    def stop(self) -> None:
        """Record no more."""
        self.end_step()
        self.remove_companions()
        if not self.recording:
            self._profiler.start_trace()  # what was prepared has to be started before it can be stopped
        self._profiler.stop_trace()

    def export(self, path: Path) -> None:
        """Write what was recorded."""
        self._profiler.export_chrome_trace(str(path))

    def remove_companions(self) -> None:
        """Leave torch and the frameworks as they were."""
        for companion in self._companions:
            companion.remove()


def _prepared(plan: CapturePlan, others: OtherProfilers) -> _KinetoProfile:
    activities = [ProfilerActivity.CPU]
    if groups.uses_cuda():  # by now a training on a GPU does; one on the CPU would be made to, in every rank
        activities.append(ProfilerActivity.CUDA)
    profiler = _KinetoProfile(
        activities=activities,
        record_shapes=plan.shapes if plan.shapes is not None else groups.need_ranges(),
        with_stack=plan.stack,
        profile_memory=plan.memory,
    )
    with others.ours():
        profiler.prepare_trace()
    return profiler
