"""Where the time of each training step went, seen from the hooks: begin, end, and the phases in between.

Knows neither torch nor files: the agent tells it what happens and writes what it returns.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from enum import IntEnum

from shardprof.trace.schema import StepRecord

LEAST_JUMP_NS = 20_000_000  # less may pass between reading two clocks on a busy machine
PHASES = DATA, FORWARD, BACKWARD, OPTIMIZER = "data", "forward", "backward", "optimizer"


class StepClock:
    """Adds up the phases of the step in progress. Times come from the monotonic clock, records get Unix time."""

    def __init__(self) -> None:
        now_ns = time.monotonic_ns()
        self._offset_ns = time.time_ns() - now_ns
        self._jumped_ns = 0
        self.step = 0
        self._begin_ns = now_ns
        self._started = False
        self._phase_ns: dict[str, int] = {}
        self._open: list[str] = []
        self._open_ns = now_ns
        self._quiet_since_ns = now_ns
        self._forward_seen = False

    @property
    def now_ns(self) -> int:
        """Unix time, by a clock that nobody can step."""
        return time.monotonic_ns() + self._offset_ns

    def jump_ns(self) -> int:
        """By how much the machine's clock has been stepped since the last call."""
        jump_ns = time.time_ns() - self.now_ns - self._jumped_ns
        if abs(jump_ns) < LEAST_JUMP_NS:
            return 0
        self._jumped_ns += jump_ns
        return jump_ns

    @property
    def depth(self) -> int:
        """How many phases are open, one inside the other."""
        return len(self._open)

    @property
    def forwards(self) -> int:
        """How many of them are forwards."""
        return self._open.count(FORWARD)

    @property
    def is_quiet(self) -> bool:
        """Has the step in progress had no phase so far?"""
        return not (self._phase_ns or self._open)

    def begin(self, phase: str) -> bool:
        """A phase begins; True if it is not inside another one, whose time it would share."""
        now_ns = time.monotonic_ns()
        if not self._started:
            self._start(phase, now_ns)
        self._open.append(phase)
        if len(self._open) > 1:
            return False
        if phase == BACKWARD and not self._forward_seen:
            self._add(FORWARD, now_ns - self._quiet_since_ns)
        self._open_ns = now_ns
        return True

    def end(self) -> bool:
        """The innermost phase ends; True if it was the outermost too."""
        if not self._open:
            return False
        phase = self._open.pop()
        if self._open:
            return False
        now_ns = time.monotonic_ns()
        self._add(phase, now_ns - self._open_ns)
        self._quiet_since_ns = now_ns
        self._forward_seen = phase == FORWARD or (self._forward_seen and phase == DATA)
        return True

    def begin_at(self, begin_ns: int) -> None:
        """The step in progress began then, by the monotonic clock."""
        self._begin_ns = begin_ns

    def take_back(self, records: Sequence[StepRecord]) -> None:
        """All steps so far, `records`, become the first part of the step in progress, which is number 0."""
        for record in records:
            for phase in PHASES:
                if (duration_ns := getattr(record, f"{phase}_ns")) is not None:
                    self._add(phase, duration_ns)
        if records:
            self.step, self._begin_ns = 0, records[0].begin_ns - self._offset_ns

    def mark(
        self, *, captured: bool, profiling: bool, hook_ns: int, gc_ns: int, cuda_memory: dict[str, int]
    ) -> StepRecord:
        """The step ends now and the next one begins."""
        now_ns = time.monotonic_ns()
        record = StepRecord(
            step=self.step,
            begin_ns=self._begin_ns + self._offset_ns,
            end_ns=now_ns + self._offset_ns,
            data_ns=self._phase_ns.get(DATA),
            forward_ns=self._phase_ns.get(FORWARD),
            backward_ns=self._phase_ns.get(BACKWARD),
            optimizer_ns=self._phase_ns.get(OPTIMIZER),
            captured=captured,
            profiling=profiling,
            hook_ns=hook_ns,
            gc_ns=gc_ns,
            cuda_memory=cuda_memory,
        )
        self.step += 1
        self._begin_ns = self._quiet_since_ns = now_ns
        self._started = True
        self._phase_ns.clear()
        self._open.clear()  # a phase that an exception left open ends with its step
        self._forward_seen = False
        return record

    def _start(self, phase: str, now_ns: int) -> None:
        """The first step begins with its data or forward where they are seen: before, the model was built."""
        self._started = True
        if phase in (DATA, FORWARD):
            self._begin_ns = self._quiet_since_ns = now_ns
        else:
            self._forward_seen = True  # it cannot be told from building the model

    def _add(self, phase: str, duration_ns: int) -> None:
        self._phase_ns[phase] = self._phase_ns.get(phase, 0) + duration_ns


class Source(IntEnum):
    """Who says that a step ended; the highest one that has spoken is believed."""

    OPTIMIZER = 1
    ENGINE = 2
    USER = 3


class Marker:
    """Which of the events that could end a step do."""

    def __init__(self) -> None:
        self.source = Source.OPTIMIZER
        self._stepper: weakref.ref[object] | None = None
        self._others: weakref.WeakSet[object] = weakref.WeakSet()

    def listen_to(self, source: Source) -> None:
        """From now on only `source` and those above it end steps."""
        if source > self.source:
            self.source = source
            self._believe(None)

    def ends_step(self, source: Source, stepper: object) -> bool:
        """Does this step of `stepper`, an optimizer or engine, end the training step?

        With several of them the first one does; another that steps twice meanwhile takes its place.
        """
        self.listen_to(source)
        if source is not self.source:
            return False
        current = self._stepper() if self._stepper is not None else None
        if stepper is current and not self._others:
            return True  # every step of a training with one optimizer
        if current is None or stepper is current or stepper in self._others:
            self._believe(stepper)
            return True
        self._others.add(stepper)
        return False

    def _believe(self, stepper: object | None) -> None:
        self._stepper = weakref.ref(stepper) if stepper is not None else None
        self._others = weakref.WeakSet()
