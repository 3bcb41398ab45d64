"""Which windows a rank captures: the plan's, and those asked for while it runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardprof.recording.rank.schedule import PlannedWindow, Schedule
from shardprof.trace.schema import CapturePlan

NEVER = CapturePlan(repeat=0)


def walk(schedule: Schedule, steps: int, asked: dict[int, tuple[int, int]] | None = None) -> list[int]:
    """The steps that a rank captures which follows the schedule; `asked` says in which step what is asked for."""
    captured = []
    window: PlannedWindow | None = None
    for step in range(steps):
        if step - 1 in (asked or {}):
            schedule.ask(*(asked or {})[step - 1], now=step - 1)
        if window is not None and step >= window.end_step:
            schedule.leave(window, step)
            window = None
        following = schedule.next
        if window is None and following is not None and step >= following.prepare_step:
            window = following
        if window is not None and step >= window.first_step:
            captured.append(step)
    return captured


def test_the_plan_repeats_from_the_end_of_the_last_window() -> None:
    assert walk(Schedule(CapturePlan(first_step=2, steps=2, repeat=2)), 20) == [2, 3, 6, 7]


def test_light_recording_captures_what_is_asked_for_only() -> None:
    assert walk(Schedule(NEVER), 100) == []
    assert walk(Schedule(NEVER), 100, {10: (15, 3), 40: (41, 1)}) == [15, 16, 17, 41]


def test_asking_too_late_or_into_another_window_is_refused() -> None:
    schedule = Schedule(CapturePlan(first_step=10, steps=5))
    assert not schedule.ask(5, 2, now=5)
    assert not schedule.ask(12, 5, now=5)
    assert not schedule.ask(7, 2, now=5), "its last step would be the warm-up of the next window"
    assert schedule.ask(6, 2, now=5)
    assert schedule.next == PlannedWindow(6, 8, 6)


def test_what_is_asked_for_comes_between_the_planned_windows() -> None:
    plan = CapturePlan(first_step=10, steps=2, repeat=2)
    assert walk(Schedule(plan), 40, {3: (5, 2)}) == [5, 6, 10, 11, 22, 23]


plans = st.builds(
    CapturePlan,
    first_step=st.integers(0, 9),
    steps=st.integers(1, 5),
    warmup_steps=st.just(0),
    repeat=st.integers(0, 4),
)
requests = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=4)


@given(plan=plans, asked=requests)
def test_whatever_is_asked_for_no_step_is_captured_twice_and_nothing_hangs(
    plan: CapturePlan, asked: dict[int, tuple[int, int]]
) -> None:
    captured = walk(Schedule(plan), 100, asked)
    assert captured == sorted(set(captured))
