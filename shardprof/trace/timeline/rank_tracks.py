"""What is always recorded of a rank, as tracks of the timeline: its steps, and what torch's allocator held."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from shardprof.trace.schema import StepRecord
from shardprof.trace.timeline.writer import TimelineWriter

_OF_THE_SLICE = ("step", "begin_ns", "end_ns", "cuda_memory")
_BYTES = "_bytes"


def write_steps(writer: TimelineWriter, process: int, steps: Iterable[StepRecord]) -> None:
    """A slice a step. Its phases are sums, of which nobody knows where in the step they lay: they are its arguments."""
    thread = writer.thread(process, "steps")
    for step in steps:
        args = {name: value for name, value in dataclasses.asdict(step).items() if name not in _OF_THE_SLICE}
        known = {name: value for name, value in args.items() if value is not None}
        writer.slice(process, thread, f"step {step.step}", step.begin_ns, step.end_ns, known)


def write_allocator(writer: TimelineWriter, process: int, steps: Iterable[StepRecord]) -> None:
    """A counter track for each of the allocator's figures."""
    for step in steps:
        for name, value in step.cuda_memory.items():
            label = f"CUDA memory · {name.removesuffix(_BYTES).replace('_', ' ')}"
            writer.counter(process, label, "B" if name.endswith(_BYTES) else "", step.end_ns, value)
