"""Captures the planned steps of a rank with torch.profiler; outside its windows nothing of the profiler exists.

A window: `prepare` at the first warm-up step, record from `first_step` on with a `ProfilerStep#N` range a step, export
after the last one. Numbers are the training's own step numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch.profiler import ProfilerActivity
from torch.profiler.profiler import _KinetoProfile

from shardprof.record import groups
from shardprof.record.compress import Compressor
from shardprof.record.other_profilers import OtherProfilers
from shardprof.record.ranges import Range
from shardprof.record.rank_file import RankFile
from shardprof.record.termination import TerminationGuard
from shardprof.trace.schema import CapturePlan, Window


class CaptureRanges(Protocol):
    """Ranges that somebody puts into the trace, by patches that are there while it is recorded only."""

    def install(self) -> None:
        """Recording begins."""

    def remove(self) -> None:
        """It is over; also called where it never began."""


class Capture:
    """The capture plan of one rank, carried out. `recording` is True while the profiler records."""

    def __init__(
        self, plan: CapturePlan, folder: Path, rank_file: RankFile, others: OtherProfilers, say: Callable[[str], None]
    ) -> None:
        self.recording = False
        self._plan = plan
        self._folder = folder
        self._rank_file = rank_file
        self._others = others
        self._say = say
        self._window = 0
        self._step = 0
        self._profiler: _KinetoProfile | None = None
        self._step_range: Range | None = None
        self._ranges: list[CaptureRanges] = [groups.GroupRanges()]
        self._compressor = Compressor(self._compressed, self._not_compressed)
        self._termination = TerminationGuard(self._end_window)

    @property
    def has_begun(self) -> bool:
        """Has the first window been opened?"""
        return self._window > 0 or self._profiler is not None

    @property
    def profiling(self) -> bool:
        """Is the profiler there, recording or warming up?"""
        return self._profiler is not None

    def show(self, ranges: CaptureRanges) -> None:
        """From the next window on the trace has these ranges too."""
        if type(ranges) not in map(type, self._ranges):
            self._ranges.append(ranges)

    def step_begins(self, step: int) -> None:
        """Step `step` begins now: start, go on with, or end a window."""
        with self._termination.held():
            try:
                self._change(step)
            except Exception:
                self._give_up()
                raise

    def make_way(self) -> None:
        """The script's own profiler is about to open: end our window here and keep what it has."""
        if self._profiler is None:
            return
        self._tell(f"the script's own torch.profiler starts in step {self._step}: {self._steps} end there")
        with self._termination.held():
            self._keep(self._end_window(), wait=False)

    def finish(self) -> None:
        """The process ends: keep what was captured so far."""
        with self._termination.held():
            self._keep(self._end_window(), wait=True)
            self._compressor.join()

    def forget_in_fork(self) -> None:
        """In a forked child: the profiler is the parent's."""
        self._profiler, self.recording = None, False

    @property
    def _first_step(self) -> int:
        return self._plan.first_step + self._window * (self._plan.first_step + self._plan.steps)

    @property
    def _steps(self) -> str:
        return f"the captured steps {self._first_step}-{self._first_step + self._plan.steps - 1}"

    def _change(self, step: int) -> None:
        self._end_step_range()
        self._step = step
        if not groups.captures_cuda_graph():  # the profiler synchronizes, which breaks it: the next mark catches up
            self._open_or_close(step)
        if self.recording:
            self._step_range = Range(f"ProfilerStep#{step}")

    def _open_or_close(self, step: int) -> None:
        if self._profiler is not None and step >= self._first_step + self._plan.steps:
            self._keep(self._end_window(), wait=False)
        if self._profiler is None and self._is_due(step):
            self._prepare()
        if self._profiler is not None and not self.recording and step >= self._first_step:
            self._start(self._profiler)

    def _is_due(self, step: int) -> bool:
        return self._window < self._plan.repeat and step >= self._first_step - self._plan.warmup_steps

    def _prepare(self) -> None:
        if self._others.running:
            self._tell(f"the script runs its own torch.profiler: {self._steps} are left to it")
            self._window += 1
            return
        activities = [ProfilerActivity.CPU]
        if groups.uses_cuda():  # by now a training on a GPU does; one on the CPU would be made to, in every rank
            activities.append(ProfilerActivity.CUDA)
        shapes = self._plan.shapes if self._plan.shapes is not None else groups.need_ranges()
        profiler = _KinetoProfile(
            activities=activities,
            record_shapes=shapes,
            with_stack=self._plan.stack,
            profile_memory=self._plan.memory,
        )
        with self._others.ours():
            profiler.prepare_trace()
        self._profiler = profiler
        self._termination.install()

    def _start(self, profiler: _KinetoProfile) -> None:
        for ranges in self._ranges:
            ranges.install()
        profiler.start_trace()
        self.recording = True

    def _end_window(self) -> Path | None:
        """Stop the profiler; the file with what it recorded, if it did."""
        if self._profiler is None:
            return None
        profiler, recorded = self._profiler, self.recording
        first_step, window = self._first_step, self._window
        self._profiler, self.recording, self._window = None, False, window + 1
        self._end_step_range()
        self._remove_ranges()
        begin_ns = time.monotonic_ns()
        try:
            if not recorded:
                profiler.start_trace()  # what was prepared has to be started before it can be stopped
            profiler.stop_trace()
            return self._export(profiler, window, first_step, begin_ns) if recorded else None
        finally:
            self._termination.remove()

    def _export(self, profiler: _KinetoProfile, window: int, first_step: int, begin_ns: int) -> Path:
        path = self._folder / ("trace.json" if window == 0 else f"trace.{window}.json")
        profiler.export_chrome_trace(str(path))
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

    def _remove_ranges(self) -> None:
        for ranges in self._ranges:
            ranges.remove()

    def _give_up(self) -> None:
        """This window failed: go on as if it were over."""
        if self._profiler is not None:
            self._termination.remove()
        self._remove_ranges()
        self._profiler, self.recording = None, False
        self._window += 1

    def _keep(self, trace: Path | None, *, wait: bool) -> None:
        if trace is not None:
            self._compressor.put(trace, wait=wait)

    def _end_step_range(self) -> None:
        step_range, self._step_range = self._step_range, None
        if step_range is not None:
            step_range.close()

    def _compressed(self, plain: Path, packed: Path) -> None:
        for window in self._rank_file.record.windows:
            if window.file == plain.name:
                self._rank_file.put_window(dataclasses.replace(window, file=packed.name), instead_of=window)

    def _not_compressed(self, plain: Path, error: OSError) -> None:
        with contextlib.suppress(OSError):  # of the same cause
            self._rank_file.note(f"{plain.name} stays uncompressed: {error}")

    def _tell(self, text: str) -> None:
        self._say(text)
        self._rank_file.note(text)
