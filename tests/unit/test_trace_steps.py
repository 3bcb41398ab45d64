"""How optimizers mark steps under the names that torch, frameworks and scripts give them, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.schema import StepRecord
from shardprof.trace.step_doubts import step_doubts
from shardprof.trace.steps import StepWindows, find_steps
from tests.conftest import BASE_NS, WORKER, Trace
from tests.unit.test_trace_periodicity import STEP, training


def found(made: Trace, folder: Path) -> StepWindows:
    return find_steps(read_kineto(made.write(folder / "trace.json")), ())


def stepping(name: str, *ends: int, cat: str = "user_annotation", tid: int = 1) -> Trace:
    made = Trace({}).event("aten::mm", 0, 900)
    for end in ends:
        made.event(name, end - 10, end, cat=cat, tid=tid)
    return made


@pytest.mark.parametrize(
    "name",
    [
        "Optimizer.step#AdamW.step",
        "## optimizer ##",
        "optimizer",
        "optimizer_step",
        "optimizer.step",
        "[pl][profile][Strategy]DDPStrategy.optimizer_step",
        "shardprof::optimizer",
        "DeepSpeedZeroOptimizer_Stage3.step",
        "BF16_Optimizer.step",
    ],
)
def test_an_optimizer_ends_a_step(name: str, tmp_path: Path) -> None:
    steps = found(stepping(name, 100, 200, 300), tmp_path)
    assert (steps.source, steps.windows.tolist()) == ("optimizer steps", [[0, 100], [100, 200], [200, 300]])
    assert steps.confidence == 1 - 2**-3


@pytest.mark.parametrize(
    "name",
    [
        "Optimizer.zero_grad#AdamW.zero_grad",
        "DeepSpeedZeroOptimizer_Stage3._optimizer_states",
        "DeepSpeedZeroOptimizer_Stage3._post_step",
        "optimizer_steps_done",
        "ProfilerStepper",
    ],
)
def test_what_is_no_step_of_an_optimizer(name: str, tmp_path: Path) -> None:
    assert found(stepping(name, 100, 200, 300), tmp_path).source == "whole trace"


def test_a_mark_on_the_gpu_is_no_step_of_an_optimizer(tmp_path: Path) -> None:
    made = stepping("Optimizer.step#SGD.step", 100, 200, cat="gpu_user_annotation")
    assert found(made, tmp_path).source == "whole trace"


def test_optimizers_count_on_the_thread_that_has_most_of_them(tmp_path: Path) -> None:
    made = stepping("Optimizer.step#SGD.step", 100, 200, tid=WORKER)
    for begin in range(0, 900, 10):
        made.event("aten::mm", begin, begin + 5)
    made.event("Optimizer.step#SGD.step", 40, 50, cat="user_annotation")
    assert found(made, tmp_path).windows.tolist() == [[0, 100], [100, 200]]


def test_optimizers_inside_one_that_a_framework_marks_are_one_step(tmp_path: Path) -> None:
    made = stepping("DeepSpeedZeroOptimizer_Stage3.step", 100, 200)
    for begin in (91, 94, 191, 194):
        made.event("Optimizer.step#AdamW.step", begin, begin + 2, cat="user_annotation")
    assert found(made, tmp_path).windows.tolist() == [[0, 100], [100, 200]]


def test_optimizers_that_step_in_turn_are_doubted(tmp_path: Path) -> None:
    steps = found(stepping("Optimizer.step#Adam.step", 100, 120, 220, 240, 340, 360), tmp_path)
    assert steps.source == "optimizer steps"
    assert steps.confidence < 0.5


def test_a_rhythm_of_kernels_is_surer_than_optimizers_that_step_in_turn(tmp_path: Path) -> None:
    made = training(4, STEP)
    for end in (10 * len(STEP) * i for i in range(1, 5)):
        for begin in (end - 30, end - 12):
            made.event("Optimizer.step#Adam.step", begin, begin + 10, cat="user_annotation")
    steps = found(made, tmp_path)
    assert (steps.source, len(steps.windows)) == ("periodicity", 4)


def test_marks_are_sure_and_nothing_is_not(tmp_path: Path) -> None:
    assert found(Trace({}).step(3, 0, 10).event("aten::mm", 1, 5), tmp_path).confidence == 1
    nothing = found(Trace({}).event("note", 0, 5, cat="user_annotation"), tmp_path)
    assert (nothing.source, len(nothing.windows), nothing.confidence) == ("none", 0, 0)


def records(*ends: int) -> list[StepRecord]:
    begins = (0, *ends)
    return [
        StepRecord(step=step, begin_ns=BASE_NS + begin, end_ns=BASE_NS + end)
        for step, (begin, end) in enumerate(zip(begins, ends, strict=False))
    ]


def marked() -> Trace:
    """Steps 0 and 1 of a training that then evaluates, or waits for a rank that is gone, until the profiler stops."""
    return Trace().step(0, 0, 100).step(1, 101, 200).step(2, 201, 9000).event("aten::mm", 0, 9000)


def test_what_comes_after_the_last_step_that_ended_is_no_step(tmp_path: Path) -> None:
    trace = read_kineto(marked().write(tmp_path / "trace.json"))
    steps = find_steps(trace, records(100, 200))
    assert (steps.numbers, steps.windows.tolist(), steps.unfinished) == ((0, 1), [[0, 100], [101, 200]], (2,))
    (doubt,) = [doubt for doubt in step_doubts(trace, steps) if doubt.code == "unfinished_steps"]
    assert doubt.count == 1
    whole = find_steps(trace, records(100, 200, 9000))
    assert (whole.numbers, whole.unfinished) == ((0, 1, 2), ())
    of_other_tools = find_steps(trace, ())
    assert (of_other_tools.numbers, of_other_tools.unfinished) == ((0, 1, 2), ())


def test_where_no_captured_step_ended_they_are_told_all_the_same(tmp_path: Path) -> None:
    trace = read_kineto(marked().write(tmp_path / "trace.json"))
    steps = find_steps(trace, [StepRecord(step=9, begin_ns=BASE_NS - 500, end_ns=BASE_NS - 10)])
    assert (steps.numbers, steps.unfinished) == ((0, 1, 2), (0, 1, 2))
    assert "unfinished_steps" in {doubt.code for doubt in step_doubts(trace, steps)}
