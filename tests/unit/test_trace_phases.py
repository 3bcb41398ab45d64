"""Forward, backward and optimizer are told apart by autograd's and the optimizer's ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.phases import PHASES, phases_of
from tests.conftest import WORKER, Trace


def operators(trace: Trace, begin: int, count: int = 10) -> Trace:
    for i in range(count):
        trace.event("aten::mm", begin + 2 * i, begin + 2 * i + 1)
    return trace


def backward(trace: Trace, begin: int, *, tid: int = WORKER) -> Trace:
    """Three nodes of 20 ns with 10 ns between them."""
    for i in range(3):
        at = begin + 30 * i
        trace.event("autograd::engine::evaluate_function: MmBackward0", at, at + 20, tid=tid)
        trace.event("aten::mm", at + 5, at + 15, tid=tid)
    return trace


def phases(trace: Trace, path: Path, *times: int) -> list[str]:
    read = read_kineto(trace.write(path / "trace.json"))
    events = read.events
    marks = np.flatnonzero(events.named(lambda name: name.startswith("ProfilerStep")))
    # The builder's times are relative to the trace's base, as the events are.
    found = phases_of(events, events.intervals(marks)).at(np.array(times, dtype=np.int64))
    return [PHASES[phase] for phase in found.tolist()]


def a_step(trace: Trace, begin: int, number: int) -> Trace:
    operators(trace.step(number, begin, begin + 1000), begin + 10)
    backward(trace, begin + 200)
    return trace.event("Optimizer.step#AdamW.step", begin + 400, begin + 600, cat="user_annotation")


@pytest.mark.parametrize("tid", [WORKER, 1])
def test_a_step_of_each_phase(tmp_path: Path, tid: int) -> None:
    trace = operators(Trace().step(1, 0, 1000), 10)
    backward(trace, 200, tid=tid).event("Optimizer.step#SGD.step", 400, 600, cat="user_annotation")
    found = phases(trace, tmp_path, 50, 199, 205, 225, 275, 300, 450, 700)  # at 300 gradients may be reduced
    assert found == ["forward", "forward", "backward", "backward", "backward", "backward", "optimizer", "optimizer"]


def test_each_step_begins_with_its_forward(tmp_path: Path) -> None:
    trace = a_step(a_step(Trace(), 0, 1), 1000, 2)
    assert phases(trace, tmp_path, 990, 1005, 1050, 1205, 1500) == [
        "optimizer", "forward", "forward", "backward", "optimizer",
    ]  # fmt: skip


def test_accumulated_micro_batches_alternate(tmp_path: Path) -> None:
    trace = operators(Trace().step(1, 0, 2000), 10)
    operators(backward(trace, 200), 310)
    backward(trace, 400).event("Optimizer.step#SGD.step", 700, 800, cat="user_annotation")
    assert phases(trace, tmp_path, 50, 225, 320, 425, 750) == [
        "forward", "backward", "forward", "backward", "optimizer",
    ]  # fmt: skip


def test_two_optimizers_in_a_step(tmp_path: Path) -> None:
    """As of a GAN: what follows the first one's end is the other network's forward."""
    trace = operators(Trace().step(1, 0, 2000), 10)
    backward(trace, 200).event("Optimizer.step#SGD.step", 400, 500, cat="user_annotation")
    operators(trace, 600)
    backward(trace, 800).event("Optimizer.step#SGD.step", 1000, 1100, cat="user_annotation")
    assert phases(trace, tmp_path, 450, 610, 810, 1050, 1500) == [
        "optimizer", "forward", "backward", "optimizer", "optimizer",
    ]  # fmt: skip


def test_without_autograd_and_optimizer_all_is_forward(tmp_path: Path) -> None:
    assert phases(operators(Trace().step(1, 0, 1000), 10), tmp_path, 15, 500) == ["forward", "forward"]
