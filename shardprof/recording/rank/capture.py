"""Carries out the capture schedule of one rank; outside its windows nothing of the profiler exists.

A window is opened at its first warm-up step, recorded from its first step on with a `ProfilerStep#N` range a step, and
exported after its last one. Numbers are the training's own step numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from shardprof.recording.exit_guard import ExitGuard
from shardprof.recording.rank import groups
from shardprof.recording.rank.compress import Compressor
from shardprof.recording.rank.memory_history import MemoryHistory
from shardprof.recording.rank.other_profilers import OtherProfilers
from shardprof.recording.rank.schedule import PlannedWindow, Schedule
from shardprof.recording.rank.termination import TerminationGuard
from shardprof.recording.rank.window import Companion, OpenWindow
from shardprof.recording.record_file import RankFile
from shardprof.trace.schema import CapturePlan, Window

NEAR_STEPS = 20


class Capture:
    """What one rank captures. `step_begins` is told of every step."""

    def __init__(
        self, plan: CapturePlan, folder: Path, rank_file: RankFile, others: OtherProfilers, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._rank_file = rank_file
        self._others = others
        self._say = say
        self._schedule = Schedule(plan)
        self._window: OpenWindow | None = None
        self._opened = 0
        self._step = 0
        self._companions: list[Companion] = [groups.GroupRanges()]
        if plan.memory:
            self._companions.append(MemoryHistory(folder, rank_file.note))
        self._compressor = Compressor(self._compressed, self._not_compressed)
        self._termination = TerminationGuard(self._end_window)
        self._exit = ExitGuard(self._end_window)

    @property
    def has_begun(self) -> bool:
        """Has the first window been opened?"""
        return self._opened > 0

    @property
    def profiling(self) -> bool:
        """Is the profiler there, recording or warming up?"""
        return self._window is not None

    @property
    def recording(self) -> bool:
        """Does the profiler record?"""
        return self._window is not None and self._window.recording

    @property
    def distance(self) -> str:
        """How far from a window this rank is: "recording", "near" or "far"."""
        if self._window is not None:
            return "recording"
        following = self._schedule.next
        return "near" if following and following.first_step - self._step <= NEAR_STEPS else "far"

    def show(self, companion: Companion) -> None:
        """From the next window on it is there too."""
        if type(companion) not in map(type, self._companions):
            self._companions.append(companion)

    def ask(self, first_step: int, steps: int) -> None:
        """Somebody wants these steps captured as well."""
        if not self._schedule.ask(first_step, steps, self._step):
            self._tell(f"steps {first_step}-{first_step + steps - 1} cannot be captured any more in step {self._step}")

    def step_begins(self, step: int) -> None:
        """Step `step` begins now: start, go on with, or end a window."""
        if self._window is None and not self._is_due(step):  # as in nearly every step of a training
            self._step = step
            return
        with self._termination.held():
            try:
                self._change(step)
            except Exception:
                self._give_up()
                raise

    def make_way(self) -> None:
        """The script's own profiler is about to open: end our window here and keep what it has."""
        if self._window is None:
            return
        self._tell(f"the script's own torch.profiler starts in step {self._step}: {self._window.planned} end there")
        with self._termination.held():
            self._keep(self._end_window(), wait=False)

    def finish(self) -> None:
        """The process ends: keep what was captured so far."""
        with self._termination.held():
            self._keep(self._end_window(), wait=True)
            self._compressor.join()

    def forget_in_fork(self) -> None:
        """In a forked child: the profiler is the parent's."""
        self._window = None

    def _is_due(self, step: int) -> bool:
        following = self._schedule.next
        return following is not None and step >= following.prepare_step

    def _change(self, step: int) -> None:
        if self._window is not None:
            self._window.end_step()
        self._step = step
        if not groups.captures_cuda_graph():  # the profiler synchronizes, which breaks it: the next mark catches up
            self._open_or_close(step)
        if self._window is not None:
            self._window.begin_step(step)

    def _open_or_close(self, step: int) -> None:
        if self._window is not None and step >= self._window.planned.end_step:
            self._keep(self._end_window(), wait=False)
        if self._window is None and self._is_due(step) and (following := self._schedule.next):
            self._open(following)
        if self._window is not None and not self._window.recording and step >= self._window.planned.first_step:
            self._window.start()

    def _open(self, planned: PlannedWindow) -> None:
        self._opened += 1
        if self._others.running:
            self._tell(f"the script runs its own torch.profiler: {planned} are left to it")
            self._schedule.leave(planned, self._step)
            return
        self._window = OpenWindow(planned, self._plan, self._companions, self._others)
        self._termination.install()
        self._exit.install()

    def _end_window(self) -> Path | None:
        """Stop the profiler; the file with what it recorded, if it did."""
        if self._window is None:
            return None
        window, self._window = self._window, None
        recorded = window.recording
        self._schedule.leave(window.planned, self._step)
        begin_ns = time.monotonic_ns()
        try:
            window.stop()
            return self._export(window, begin_ns) if recorded else None
        finally:
            self._remove_guards()

    def _export(self, window: OpenWindow, begin_ns: int) -> Path:
        path = self._folder / ("trace.json" if self._opened == 1 else f"trace.{self._opened - 1}.json")
        window.export(path)
        first_step = window.planned.first_step
        if self._step == first_step:
            self._rank_file.note(
                f"the capture ended inside step {first_step}, its first: {path.name} has no whole step"
            )
            return path
        export_ns = time.monotonic_ns() - begin_ns
        self._rank_file.put_window(
            Window(first_step=first_step, last_step=self._step - 1, file=path.name, export_ns=export_ns)
        )
        return path

    def _give_up(self) -> None:
        """This window failed: go on as if it were over."""
        window, self._window = self._window, None
        failed = window.planned if window is not None else self._schedule.next
        if failed is not None:
            self._schedule.leave(failed, self._step)
        if window is not None:
            self._remove_guards()
            window.remove_companions()

    def _remove_guards(self) -> None:
        self._termination.remove()
        self._exit.remove()

    def _keep(self, trace: Path | None, *, wait: bool) -> None:
        if trace is not None:
            self._compressor.put(trace, wait=wait)

    def _compressed(self, plain: Path, packed: Path) -> None:
        for window in self._rank_file.record.windows:
            if window.file == plain.name:
                self._rank_file.put_window(dataclasses.replace(window, file=packed.name), instead_of=window)

    def _not_compressed(self, plain: Path, error: Exception) -> None:
        with contextlib.suppress(OSError):  # of the same cause
            self._rank_file.note(f"{plain.name} stays uncompressed: {error}")

    def _tell(self, text: str) -> None:
        self._say(text)
        self._rank_file.note(text)
