"""A rank at a glance, as tracks of the timeline: what its steps went to, its host's phases, what is always recorded."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence

from shardprof.trace.schema import StepRecord
from shardprof.trace.timeline.overview import Window
from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import Slice, TimelineWriter

_OF_THE_SLICE = ("step", "begin_ns", "end_ns", "cuda_memory")
_BYTES = "_bytes"


class RecordedTracks:
    """A slice for each step that was recorded, and what the allocator held."""

    def __init__(self, writer: TimelineWriter, process: int, steps: Sequence[StepRecord]) -> None:
        self._writer = writer
        self._process = process
        self._steps = steps
        self._thread = writer.thread(process, "recorded steps", Shelf.RECORDED) if steps else 0

    def write(self) -> None:
        """A step's phases are sums, of which nobody knows where in the step they lay: they are its arguments."""
        for step in self._steps:
            args = {name: value for name, value in dataclasses.asdict(step).items() if name not in _OF_THE_SLICE}
            known = {name: value for name, value in args.items() if value is not None}
            made = Slice("recorded step", f"step {step.step}", step.begin_ns, step.end_ns, known)
            self._writer.slice(self._process, self._thread, made)
            for name, value in step.cuda_memory.items():
                label = f"CUDA memory · {name.removesuffix(_BYTES).replace('_', ' ')}"
                unit = "B" if name.endswith(_BYTES) else ""
                self._writer.counter(self._process, label, unit, step.end_ns, value)


class ClassTracks:
    """The captured steps of a rank, below each what its time went to; the phases of its host."""

    def __init__(self, writer: TimelineWriter, process: int, rank: int, windows: Sequence[Window]) -> None:
        self._writer = writer
        self._process = process
        self._windows = sorted(windows, key=lambda window: window.base_ns + window.first_ns)
        self._classes = writer.thread(process, f"rank {rank} · step classes", Shelf.CLASSES) if windows else 0
        self._phases = writer.thread(process, "phases", Shelf.PHASES) if windows else 0

    def write(self) -> None:
        """Classes lie inside their steps; what they leave open is idle."""
        for window in self._windows:
            classes = _slices("class", window, window.classes.get())
            for made in heapq.merge(_slices("step", window, _steps(window)), classes, key=_order):
                self._writer.slice(self._process, self._classes, made)
            for made in _slices("phase", window, window.phases.get()):
                self._writer.slice(self._process, self._phases, made)


def _slices(category: str, window: Window, pieces: Iterable[tuple[str, int, int]]) -> Iterator[Slice]:
    for name, begin_ns, end_ns in pieces:
        yield Slice(category, name, window.base_ns + begin_ns, window.base_ns + end_ns)


def _steps(window: Window) -> Iterable[tuple[str, int, int]]:
    steps = zip(window.steps.numbers, window.steps.windows.tolist(), strict=True)
    is_step = window.steps.confidence > 0
    return [(f"step {number}" if is_step else "no steps", begin, end) for number, (begin, end) in steps]


def _order(made: Slice) -> tuple[int, int]:
    return made.begin_ns, -made.end_ns
