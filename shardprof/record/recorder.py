"""Records one rank: a line a step, always; the profiler in its windows; what trains it, once that is known."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardprof.record import claim, groups
from shardprof.record.capture import Capture
from shardprof.record.other_profilers import OtherProfilers
from shardprof.record.ranges import Range
from shardprof.record.rank_file import RankFile
from shardprof.record.steps import DATA, Marker, Source, StepClock
from shardprof.trace.schema import STEPS_FILE, CapturePlan, to_json

Describe = Callable[[], dict[str, Any]]


class Recorder:
    """What the agent has once its process is a rank. It follows the thread that claimed the rank, no other."""

    def __init__(
        self, folder: Path, rank_file: RankFile, plan: CapturePlan, others: OtherProfilers, say: Callable[[str], None]
    ) -> None:
        self.rank_file = rank_file
        self.clock = StepClock()
        self.marker = Marker()
        self.capture = Capture(plan, folder, rank_file, others, say)
        self.hook_ns = 0
        self._thread = threading.get_ident()
        self._steps_file = os.open(folder / STEPS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._phase_range: Range | None = None
        self._just_stepped: object | None = None
        self._mark_is_due = False
        self._framework: tuple[str, Describe] | None = None
        self._has_begun = False

    def begin(self, phase: str) -> None:
        """A phase begins on this thread."""
        if threading.get_ident() != self._thread:
            return
        self._begin_run()
        is_outermost = self.clock.begin(phase)
        if is_outermost and self.capture.recording and phase != DATA:  # the DataLoader has a range of its own
            self._phase_range = Range(f"shardprof::{phase}")

    def end(self) -> None:
        """The innermost phase ends; so does the step, if it was to end within."""
        if threading.get_ident() != self._thread or not self.clock.end():
            return
        self._end_range()
        self._just_stepped = None
        if self._mark_is_due:
            self.mark()

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer has done its step, or GradScaler in its place; within one phase it counts once."""
        if optimizer is self._just_stepped:
            return
        self._just_stepped = optimizer if self.clock.depth > 0 else None
        if self.marker.optimizer_ends_step(optimizer):
            self._end_step()

    def stepped(self, source: Source) -> None:
        """An engine or the user says that the step is done."""
        if self.marker.ends_step(source):
            self._end_step()

    def uses(self, framework: str, describe: Describe) -> None:
        """The phase that has just begun is `framework`'s; `describe` is asked when the first step is over."""
        if self.clock.step == 0 and self.clock.depth == 1:
            self._framework = (framework, describe)

    def mark(self) -> None:
        """The step ends here."""
        self._mark_is_due = False
        self._end_range()
        record = self.clock.mark(captured=self.capture.recording, hook_ns=self.hook_ns)
        self.hook_ns = 0
        try:
            os.write(self._steps_file, f"{to_json(record)}\n".encode())
        except OSError as error:
            self.rank_file.dropped(f"steps are missing in {STEPS_FILE}: {error}")
        if record.step == 0:
            self._describe()
        self.capture.step_begins(self.clock.step)

    def finish(self) -> None:
        """The process ends."""
        self._end_range()
        self.capture.finish()

    def _begin_run(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.capture.step_begins(self.clock.step)

    def _end_step(self) -> None:
        """A step that ends inside a phase (the optimizer's own, backward with fused optimizers) ends with the phase."""
        if self.clock.depth > 0:
            self._mark_is_due = True
        elif threading.get_ident() == self._thread:
            self.mark()

    def _end_range(self) -> None:
        phase_range, self._phase_range = self._phase_range, None
        if phase_range is not None:
            phase_range.close()

    def _describe(self) -> None:
        """By now lazy initialisation is over: devices, groups and shards are what they stay."""
        known = {
            "device": claim.device(),
            "world_size": claim.world_size(),
            "versions": claim.versions(),
            "process_groups": groups.process_groups(),
        }
        if self._framework is not None:
            name, describe = self._framework
            self._framework = None  # it holds the model
            known["framework"] = name
            try:
                known["settings"] = describe()
            except Exception as error:  # internals of a framework's other version
                self.rank_file.note(f"the settings of {name} could not be read: {error!r}")
        self.rank_file.update(**known)
