"""Records one rank: a line a step, always; the profiler in its windows; what trains it, once that is known."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shardprof.recording import claim
from shardprof.recording.rank import groups
from shardprof.recording.rank.capture import Capture
from shardprof.recording.rank.cuda_memory import allocator_state
from shardprof.recording.rank.garbage import Garbage
from shardprof.recording.rank.housekeeper import Housekeeper
from shardprof.recording.rank.other_profilers import OtherProfilers
from shardprof.recording.rank.ranges import Range
from shardprof.recording.rank.steps import DATA, Marker, Source, StepClock
from shardprof.recording.record_file import RankFile
from shardprof.trace.journal import Journal
from shardprof.trace.place import BETWEEN, ENDED, Place
from shardprof.trace.schema import STEPS_FILE, CapturePlan, read_steps, to_json

Describe = Callable[[Any], dict[str, Any]]
MOST_STEP_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A model seen in its forward: whose it is, how its settings are read, whether the forward was one of training."""

    framework: str
    model: weakref.ref[Any]
    describe: Describe
    trains: bool


class Recorder:
    """What the agent has once its process is a rank. It follows the thread that claimed the rank, no other."""

    def __init__(
        self,
        run: Path,
        folder: Path,
        rank_file: RankFile,
        plan: CapturePlan,
        others: OtherProfilers,
        say: Callable[[str], None],
        block_began_ns: int | None,
    ) -> None:
        self.rank_file = rank_file
        self.clock = StepClock()
        self.marker = Marker()
        self.capture = Capture(plan, folder, rank_file, others, say)
        self.hook_ns = 0
        self._block_began_ns = block_began_ns
        self._thread = threading.get_ident()
        self._steps_path = folder / STEPS_FILE
        self._garbage = Garbage()
        self._journal = Journal(self._steps_path, MOST_STEP_BYTES)
        self._at = (0, BETWEEN, self.clock.now_ns)
        self._housekeeper = Housekeeper(run, folder, plan.watchdog_s, self._place, self._look_at_clock)
        self._phase_range: Range | None = None
        self._just_stepped: object | None = None
        self._mark_is_due = False
        self._used: Used | None = None
        self._has_begun = False

    def begin(self, phase: str) -> None:
        """A phase begins on this thread."""
        if threading.get_ident() != self._thread:
            return
        self._begin_run()
        if not self.clock.begin(phase):
            return
        self._is_at(phase)
        if self.capture.recording and phase != DATA:  # the DataLoader has a range of its own
            self._phase_range = Range(f"shardprof::{phase}")

    def end(self) -> None:
        """The innermost phase ends; so does the step, if it was to end within."""
        if threading.get_ident() != self._thread or not self.clock.end():
            return
        self._end_range()
        self._just_stepped = None
        if self._mark_is_due:
            self.mark()
        else:
            self._is_at(BETWEEN)

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer has done its step, or GradScaler in its place; within one phase it counts once."""
        if optimizer is self._just_stepped:
            return
        self._just_stepped = optimizer if self.clock.depth > 0 else None
        self.stepped(Source.OPTIMIZER, optimizer)

    def stepped(self, source: Source, stepper: object) -> None:
        """An optimizer, an engine or the user says that the step is done."""
        is_first = source > self.marker.source
        if not self.marker.ends_step(source, stepper):
            return
        if is_first and not self.capture.has_begun:
            self._take_back()
        if not (is_first and self.clock.is_quiet) or self._begins_with_block():
            self._end_step()

    def uses(self, framework: str, model: Any, describe: Describe) -> None:
        """Forward of `model`, which is `framework`'s, has just begun; `describe` is asked when the first step is over.

        Of several models that still exist the first one that is being trained counts, else the first one. A forward
        inside another is not asked; one inside an optimizer's closure is, which is how Lightning calls it.
        """
        if self.clock.step > 0 or self.clock.forwards != 1 or threading.get_ident() != self._thread:
            return
        trains = torch.is_grad_enabled() and model.training
        used = self._used
        if used is None or used.model() is None or (trains and not used.trains):
            self._used = Used(framework=framework, model=weakref.ref(model), describe=describe, trains=trains)

    def mark(self) -> None:
        """The step ends here."""
        self._mark_is_due = False
        self._end_range()
        record = self.clock.mark(
            captured=self.capture.recording,
            profiling=self.capture.profiling,
            hook_ns=self.hook_ns,
            gc_ns=self._garbage.take_ns(),
            cuda_memory=allocator_state(),
        )
        self.hook_ns = 0
        try:
            self._journal.append(to_json(record))
        except OSError as error:
            with contextlib.suppress(OSError):  # there is nowhere to write that to either: it is counted
                self.rank_file.dropped(f"steps are missing in {STEPS_FILE}: {error}")
        if record.step == 0:
            self._describe()
        if request := self._housekeeper.take_request():
            self.capture.ask(request.first_step, request.steps)
        self.capture.step_begins(self.clock.step)
        self._is_at(BETWEEN)

    def finish(self) -> None:
        """The process ends."""
        self._garbage.stop()
        self._end_range()
        self.capture.finish()
        self._is_at(ENDED)
        self._housekeeper.stop()

    def close(self) -> None:
        """It has finished and the process goes on: give the files back."""
        self._journal.close()
        self._housekeeper.close()

    def _is_at(self, phase: str) -> None:
        self._at = (self.clock.step, phase, self.clock.now_ns)

    def _look_at_clock(self) -> None:
        if jump_ns := self.clock.jump_ns():
            self.rank_file.note(f"the clock was stepped by {jump_ns / 1e9:+.3f} s in step {self.clock.step}")

    def _place(self) -> Place:
        step, phase, since_ns = self._at
        return Place(step=step, phase=phase, since_ns=since_ns, capture=self.capture.distance)

    def _begin_run(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.capture.step_begins(self.clock.step)

    def _begins_with_block(self) -> bool:
        """A quiet step has just been ended by others, or none has begun; but in a block the first one has."""
        if self._block_began_ns is None or self.clock.step > 0:
            return False
        self.clock.begin_at(self._block_began_ns)
        return True

    def _end_step(self) -> None:
        """A step that ends inside a phase (the optimizer's own, backward with fused optimizers) ends with the phase."""
        if self.clock.depth > 0:
            self._mark_is_due = True
        elif threading.get_ident() == self._thread:
            self.mark()

    def _take_back(self) -> None:
        """What was counted by others before is the first step of the source that now speaks up."""
        records = read_steps(self._steps_path)
        self.clock.take_back(records)
        self.hook_ns += sum(record.hook_ns for record in records)

    def _end_range(self) -> None:
        phase_range, self._phase_range = self._phase_range, None
        if phase_range is not None:
            phase_range.close()

    def _describe(self) -> None:
        """By now lazy initialisation is over: devices, groups and shards are what they stay."""
        known = {
            "device": claim.device(),
            "device_uuid": claim.device_uuid(),
            "world_size": claim.world_size(),
            "versions": claim.versions(),
            "process_groups": groups.process_groups(),
        }
        if self._used is not None:
            known["framework"] = self._used.framework
            try:
                if (model := self._used.model()) is not None:
                    known["settings"] = self._used.describe(model)
            except Exception as error:  # internals of a framework's other version
                self.rank_file.note(f"the settings of {self._used.framework} could not be read: {error!r}")
        self.rank_file.update(**known)
