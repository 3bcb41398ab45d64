"""What a study's figures and intervals are, on trials whose statistics are computed by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.study.conclusions import conclude
from shardprof.study.conclusions.groups import cells_of
from shardprof.study.conclusions.statistics import counted, differs, paired, repeated, student_quantile
from shardprof.study.conclusions.step_times import median
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import CellFigures, Estimate, StudyReport
from shardprof.study.results import FAILED, StepTime, Trial
from tests.unit import studies
from tests.unit.builders import MS
from tests.unit.studies import GIB, accuracies, cell, figure, losses, report, steps, trial, volumes


def figures_of(made: StudyReport, name: str) -> CellFigures:
    (found,) = [one for one in made.cells if one.name == name]
    return found


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_repeats_have_a_geometric_mean_and_the_interval_of_their_logarithms() -> None:
    made = repeated([1.0, math.e, math.e**2])  # logarithms 0, 1, 2: mean 1, deviation 1
    assert made is not None
    reach = 4.302653 / math.sqrt(3)
    assert made.value == pytest.approx(math.e)
    assert made.low == pytest.approx(math.exp(1 - reach), rel=1e-5)
    assert made.high == pytest.approx(math.exp(1 + reach), rel=1e-5)
    assert (made.basis, made.count) == ("repeats", 3)


def test_one_repeat_has_no_interval_and_never_differs() -> None:
    made = repeated([2.0])
    assert made == Estimate(value=2.0, low=None, high=None, basis="", count=1)
    assert not differs(made)
    assert repeated([]) is None
    assert repeated([1.0, 0.0]) is None


def test_what_is_counted_is_told_by_one_repeat() -> None:
    made = counted(repeated([1.5]))
    assert differs(made)
    assert not differs(counted(repeated([1.0])))


def test_ratios_are_taken_within_repeats() -> None:
    """The machine was slow in the second and the fourth repeat, for both cells alike."""
    slow = [1.0, 3.0, 1.0, 2.0]
    a = {("s", repeat): 110 * factor for repeat, factor in enumerate(slow)}
    b = {("s", repeat): 100 * factor for repeat, factor in enumerate(slow)}
    ratio = paired(a, b)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.1, 1.1, 1.1))
    assert differs(ratio)


def test_repeats_that_only_one_cell_has_are_left_out_of_a_ratio() -> None:
    ratio = paired({("s", 0): 2.0, ("s", 1): 2.0, ("s", 2): 50.0}, {("s", 0): 1.0, ("s", 1): 1.0})
    assert ratio is not None
    assert (ratio.value, ratio.count) == (pytest.approx(2.0), 2)


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=8), st.floats(0.01, 100))
def test_intervals_hold_their_figure_and_do_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    made, scaled = repeated(values), repeated([factor * value for value in values])
    assert made is not None
    assert scaled is not None
    assert made.low is not None
    assert made.high is not None
    assert made.low <= made.value * (1 + 1e-9)
    assert made.value <= made.high * (1 + 1e-9)
    assert scaled.value == pytest.approx(factor * made.value)
    assert scaled.low == pytest.approx(factor * made.low)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 4)), min_size=1, max_size=30))
def test_the_median_of_drawn_values_is_that_of_the_values_written_out(drawn: list[tuple[int, int]]) -> None:
    drawn = sorted(drawn)
    written_out = [value for value, times in drawn for _ in range(times)]
    if written_out:
        values, weights = (np.array(column, dtype=np.float64) for column in zip(*drawn, strict=True))
        assert median(values, weights) == statistics.median(written_out)


def test_throughput_is_the_global_batch_by_the_step() -> None:
    made = conclude(studies.repeated(cell("ddp", batch_size=8, ranks=2, accumulation=2), [100, 100, 100]))
    speed = made.cells[0].samples_per_s
    assert speed is not None
    assert (speed.value, speed.low, speed.high) == pytest.approx((320, 320, 320))


def test_throughputs_interval_is_the_steps_turned_round() -> None:
    made = conclude(studies.repeated(cell("ddp"), [100, 110, 125]))
    step, speed = made.cells[0].step_ns, made.cells[0].samples_per_s
    assert step is not None
    assert speed is not None
    assert step.high is not None
    assert step.value == pytest.approx((100 * 110 * 125) ** (1 / 3) * MS)
    assert speed.low == pytest.approx(16 * 1e9 / step.high)


def test_fewer_than_three_repeats_are_judged_by_their_steps() -> None:
    times = [90 + i % 21 for i in range(84)]  # 90 to 110 ms, evenly: their median is 100
    made = conclude(
        [trial(cell(), 100, measured={"figures": (figure("step_time", 100, "ms", "p50"),), "steps": steps(*times)})]
    )
    step = made.cells[0].step_ns
    assert step is not None
    assert step.low is not None
    assert step.high is not None
    assert (step.value, step.basis, step.count) == (100 * MS, "steps", 1)
    assert 90 * MS <= step.low < 100 * MS < step.high <= 110 * MS


def test_a_ratio_of_single_repeats_is_told_where_their_steps_are_apart() -> None:
    def one(name: str, middle: float) -> list[studies.Trial]:
        times = [middle - 5 + i % 11 for i in range(44)]
        return [
            trial(cell(name), measured={"figures": (figure("step_time", middle, "ms", "p50"),), "steps": steps(*times)})
        ]

    made = conclude([*one("ddp", 100), *one("zero0", 102), *one("zero3", 150)])
    ddp, zero0, zero3 = made.rankings[0].ranked
    assert (ddp.place, zero0.place, zero3.place) == (1, 1, 3)
    assert "run to run" in made.head.sureness


def test_with_too_few_repeats_in_common_a_ratio_is_that_of_all_steps() -> None:
    """Of repeats 0 to 2 and 2 to 4 one is common: the ratio and its interval rest on the same steps."""
    fast = [trial(cell("ddp"), 100, repeat=i, measured={"steps": steps(*[100.0] * 9)}) for i in range(3)]
    slow = [trial(cell("zero0"), 150, repeat=i, measured={"steps": steps(*[150.0] * 9)}) for i in range(2, 5)]
    ranked = conclude([*fast, *slow]).rankings[0].ranked
    to_best = ranked[1].to_best
    assert to_best is not None
    assert (to_best.value, to_best.low, to_best.high, to_best.basis) == (1.5, 1.5, 1.5, "steps")


def test_warm_up_and_captured_steps_do_not_count() -> None:
    times = (*steps(*[100.0] * 5), *(StepTime(step=9 + i, wall_ns=900 * MS, counts=False) for i in range(20)))
    made = conclude([trial(cell(), measured={"steps": times})])
    step = made.cells[0].step_ns
    assert step is not None
    assert (step.value, step.low, step.high) == (100 * MS, 100 * MS, 100 * MS)


def test_figures_come_in_base_units_whatever_unit_they_have() -> None:
    figures = (figure("cpu_rss", 1.5, "GiB"), figure("wire_bytes", 2e6, "bytes"), figure("exposed_comm", 7, "ms"))
    one = conclude(studies.repeated(cell(), [100, 100, 100], *figures)).cells[0]
    assert one.memory_bytes is not None
    assert one.wire_bytes is not None
    assert one.memory_bytes.value == pytest.approx(1.5 * GIB)
    assert one.wire_bytes.value == pytest.approx(2e6)
    assert one.exposed_ns == 7 * MS


def test_memory_is_the_same_figure_for_all_cells() -> None:
    """One cell has no GPU figure, so that the others' cannot stand beside it."""
    both = (figure("gpu_mem_allocated_peak", 3, "GiB"), figure("cpu_rss", 1, "GiB"))
    made = conclude([trial(cell("ddp"), 100, *both), trial(cell("zero1"), 100, both[1])])
    assert {one.memory_is for one in made.cells} == {"resident memory of a rank's process"}
    assert {one.memory_bytes.value for one in made.cells if one.memory_bytes} == {GIB}


def test_what_no_trial_measured_is_missing_with_its_reason() -> None:
    one = conclude([trial(cell(), 100, figure("mfu", None, "%", missing="no GPU"))]).cells[0]
    assert one.missing == {"mfu": "no GPU"}
    assert "mfu" not in one.figures
    assert one.memory_bytes is None
    assert one.mean_step is None


def test_a_repeat_that_was_tried_again_counts_once() -> None:
    failed = trial(cell(), started_ns=1, status=FAILED, reason="lost", measured={"figures": ()})
    again = trial(cell(), 100, started_ns=2)
    (one,) = cells_of([again, failed])
    assert len(one.trials) == 2
    assert one.finished == {("hand-made", 0): again}


def test_the_same_cell_at_two_fabrics_is_two_cells() -> None:
    slow, fast = (trial(cell(nodes=2), 100, fabric_bytes_per_s=at) for at in (1e6, 1e8))
    assert [one.situation.fabric_bytes_per_s for one in cells_of([fast, slow])] == [1e6, 1e8]


def named(*changes: dict[str, object]) -> list[str]:
    """What cells of one strategy and situation are called whose study file was edited so."""
    made = [
        trial(
            cell("zero1"), 100, cell_id=f"{index}" * 12, started_ns=index,
            length=studies.LENGTH | {key: value for key, value in change.items() if key in studies.LENGTH},
            knobs={key: value for key, value in change.items() if key not in studies.LENGTH},
        )
        for index, change in enumerate(changes)
    ]  # fmt: skip
    by_id = {one.cell_id: one.name for one in cells_of(made)}
    return [by_id[one.cell_id] for one in made]


def test_cells_of_an_edited_study_are_named_by_what_was_edited() -> None:
    assert named({}) == ["zero1"]
    assert named({"steps": 24}, {"steps": 1}) == ["zero1 (24 steps)", "zero1 (1 step)"]
    assert named({"lr": 0.01}, {"lr": 0.001}) == ["zero1 (lr 0.01)", "zero1 (lr 0.001)"]
    assert named({"clip_norm": 1.0}, {}) == ["zero1 (clipping 1.0)", "zero1 (no clipping)"]
    assert named({"overlap": True, "steps": 9}, {}) == ["zero1 (9 steps, overlap)", "zero1 (40 steps, no overlap)"]
    assert named({"name": "a"}, {"name": "b"}) == ["zero1 (000000)", "zero1 (111111)"]
    assert named({"lr": 2e-3}, {"lr": 1e-3}, {"lr": 1e-3}) == [
        "zero1 (lr 0.002)", "zero1 (lr 0.001, 111111)", "zero1 (lr 0.001, 222222)",
    ]  # fmt: skip


def test_cells_on_devices_that_the_file_does_not_name_are_named_by_the_device() -> None:
    made = [
        trial(cell(), 100, cell_id=device, measured={"report": report(device, compute=9)}) for device in ("cpu", "cuda")
    ]
    assert [one.name for one in cells_of(made)] == ["ddp (device cpu)", "ddp (device cuda)"]


def test_a_fabric_of_which_nothing_is_told_is_none_and_comes_first() -> None:
    made = conclude([trial(cell(), 100, fabric_bytes_per_s=1e6), trial(cell(), 100)])
    assert [one.situation.fabric_bytes_per_s for one in made.cells] == [None, 1e6]
    assert json.loads(json.dumps(dataclasses.asdict(made)))["cells"][0]["situation"]["fabric_bytes_per_s"] is None


def test_the_mean_step_is_of_all_steps_of_all_repeats() -> None:
    first, second = report(compute=30, all_reduce=10), report(compute=50, all_reduce=20, idle=10)
    trials = [trial(cell(), 100, repeat=i, measured={"report": one}) for i, one in enumerate((first, second))]
    step = conclude(trials).cells[0].mean_step
    assert step is not None
    assert step.wall_ns == 60 * MS
    assert step.parts_ns == {"compute": 40 * MS, "all_reduce": 15 * MS, "idle": 5 * MS}
    assert step.overlapped_share == 0


def test_overlap_is_the_share_of_communication_under_compute() -> None:
    made = conclude([trial(cell(), 100, measured={"report": report(overlapped=0.75, compute=30, all_reduce=10)})])
    step = made.cells[0].mean_step
    assert step is not None
    assert step.reduced_overlap == pytest.approx(0.75)


def test_the_report_is_json() -> None:
    whole = replace(report(compute=9), volumes=volumes({"parameters": 8}, all_reduce=(10, 10)))
    one = trial(
        cell("zero2"), 100, figure("mfu", None, "%", missing="no GPU"), fabric_bytes_per_s=1e6,
        measured={"losses": losses(2, 1), "accuracies": accuracies(1), "report": whole},
    )  # fmt: skip
    made = conclude([one, trial(cell("ddp"), status=FAILED, reason="lost")])
    plain = json.loads(json.dumps(dataclasses.asdict(made), allow_nan=False))
    assert plain["schema"] == "shardprof.study/1"
    assert plain["head"]["trials"] == {"finished": 1, "failed": 1}


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([], "No training has ended yet, so there is nothing to compare."),
        ([trial(cell(), status=FAILED, reason="no disk")], "No training finished, so there is nothing to compare."),
        ([trial(cell())], "No step counts: all are warm-up or captured, so there are no speeds to compare."),
    ],
)
def test_nothing_is_concluded_from_nothing(trials: list[Trial], says: str) -> None:
    made = conclude(trials)
    assert made.rankings == made.causes == made.decisions == made.scaling == ()
    assert made.head.answer == (says,)


@pytest.mark.parametrize(
    ("repeats", "says"),
    [
        (1, "intervals of step times are from drawing steps again"),
        (2, "those of memory are from the repeats, and wide where there are two"),
        (3, "intervals of 95 % are from the medians of the repeats"),
    ],
)
def test_how_sure_is_told_of_what_it_holds_for(repeats: int, says: str) -> None:
    """With two repeats memory has Student's interval, which is not too narrow: step times alone are."""
    sureness = conclude(studies.repeated(cell(), [100.0] * repeats)).head.sureness
    assert says in sureness
    assert ("narrower than the truth" in sureness) == (repeats < 3)
    assert ("memory" in sureness) == (repeats == 2)


def test_a_study_that_has_not_run_whole_says_so_first() -> None:
    """Of two fabrics six and three trainings are planned; an old one is no longer among them."""
    slow = studies.repeated(cell("ddp", nodes=2), [100] * 4, fabric_bytes_per_s=1e6, planned=6)
    fast = studies.repeated(cell("ddp", nodes=2), [90] * 3, fabric_bytes_per_s=1e8, planned=3)
    made = conclude([*slow, *fast, trial(cell("zero1", nodes=2), 80, fabric_bytes_per_s=1e8)])
    assert made.head.left == 2
    assert made.head.answer[0] == "2 of 10 trainings have not run yet: what follows is of the others."


def test_nobody_tells_what_is_left_of_a_study_without_a_plan() -> None:
    assert conclude(studies.repeated(cell(), [100] * 3)).head.left == 0


def test_ratios_are_computed_once_and_are_those_of_the_steps() -> None:
    study = Study([*studies.repeated(cell("ddp"), [100, 110, 120]), *studies.repeated(cell("zero1"), [150, 165, 180])])
    ddp, zero1 = study.cells
    ratio = study.time_ratio(zero1, ddp)
    assert ratio is study.time_ratio(zero1, ddp)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.5)
