"""Steps and phases as the hooks report them; and which event ends a step."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.recording.rank.steps import BACKWARD, DATA, FORWARD, OPTIMIZER, Marker, Source, StepClock
from shardprof.trace.schema import StepRecord


class Optimizer:
    pass


def run_phase(clock: StepClock, phase: str) -> None:
    clock.begin(phase)
    clock.end()


def one_step(clock: StepClock, *phases: str) -> StepRecord:
    for phase in phases:
        run_phase(clock, phase)
    return clock.mark(captured=False, profiling=False, hook_ns=0, gc_ns=0, cuda_memory={})


def test_steps_follow_each_other_without_a_gap() -> None:
    clock = StepClock()
    first = one_step(clock, DATA, FORWARD, BACKWARD, OPTIMIZER)
    second = one_step(clock)
    assert (first.step, second.step) == (0, 1)
    assert first.end_ns == second.begin_ns
    assert second.forward_ns is None


def test_times_are_unix_times() -> None:
    before_ns = time.time_ns()
    record = one_step(StepClock(), FORWARD)
    assert before_ns - 1e9 < record.begin_ns <= record.end_ns < time.time_ns() + 1e9


def test_the_first_step_begins_with_its_first_phase() -> None:
    clock = StepClock()
    built_ns = time.monotonic_ns()
    while time.monotonic_ns() - built_ns < 5_000_000:
        pass
    record = one_step(clock, FORWARD)
    assert record.end_ns - record.begin_ns < time.monotonic_ns() - built_ns - 4_000_000


def test_a_phase_inside_another_is_part_of_it() -> None:
    clock = StepClock()
    assert clock.begin(OPTIMIZER)
    assert not clock.begin(BACKWARD)
    assert not clock.end()
    assert clock.depth == 1
    assert clock.end()
    record = clock.mark(captured=False, profiling=False, hook_ns=0, gc_ns=0, cuda_memory={})
    assert record.backward_ns is None
    assert record.optimizer_ns is not None


def test_forward_is_inferred_before_each_backward_that_had_none() -> None:
    clock = StepClock()
    one_step(clock, DATA)
    assert one_step(clock, DATA, BACKWARD, BACKWARD).forward_ns is not None
    assert one_step(clock, DATA, OPTIMIZER).forward_ns is None


def test_a_first_step_that_begins_with_backward_has_no_forward_to_tell() -> None:
    assert one_step(StepClock(), BACKWARD, OPTIMIZER).forward_ns is None


def test_a_phase_left_open_by_an_exception_ends_with_its_step() -> None:
    clock = StepClock()
    clock.begin(FORWARD)
    clock.mark(captured=False, profiling=False, hook_ns=0, gc_ns=0, cuda_memory={})
    assert clock.depth == 0
    assert not clock.end()
    assert clock.begin(DATA)


@given(st.lists(st.lists(st.sampled_from([DATA, FORWARD, BACKWARD, OPTIMIZER]), max_size=8), min_size=1, max_size=5))
def test_phases_never_exceed_their_step(steps: list[list[str]]) -> None:
    clock = StepClock()
    for phases in steps:
        record = one_step(clock, *phases)
        parts = [record.data_ns, record.forward_ns, record.backward_ns, record.optimizer_ns]
        assert sum(part for part in parts if part is not None) <= record.end_ns - record.begin_ns


@pytest.mark.parametrize("source", [Source.OPTIMIZER, Source.ENGINE])
def test_of_two_optimizers_or_engines_the_first_one_ends_steps(source: Source) -> None:
    marker, first, second = Marker(), Optimizer(), Optimizer()
    turns = [first, second] * 3
    assert [marker.ends_step(source, stepper) for stepper in turns] == [True, False] * 3


def test_an_optimizer_that_steps_alone_takes_over() -> None:
    marker, first, second = Marker(), Optimizer(), Optimizer()
    assert marker.ends_step(Source.OPTIMIZER, first)
    assert [marker.ends_step(Source.OPTIMIZER, second) for _ in range(4)] == [False, True, True, True]


def test_a_new_optimizer_replaces_one_that_is_gone() -> None:
    marker, first = Marker(), Optimizer()
    marker.ends_step(Source.OPTIMIZER, first)
    del first
    gc.collect()
    assert marker.ends_step(Source.OPTIMIZER, Optimizer())


def test_the_engine_overrides_optimizers_and_the_user_both() -> None:
    marker, optimizer = Marker(), Optimizer()
    assert marker.ends_step(Source.OPTIMIZER, optimizer)
    marker.listen_to(Source.ENGINE)
    assert not marker.ends_step(Source.OPTIMIZER, optimizer)
    engine, user = Optimizer(), Optimizer()
    assert marker.ends_step(Source.ENGINE, engine)
    assert marker.ends_step(Source.USER, user)
    assert not marker.ends_step(Source.ENGINE, engine)
