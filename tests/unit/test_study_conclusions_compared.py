"""What follows when cells of a study stand beside each other: rankings, scaling, fairness, causes, hypotheses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from shardprof.analysis.comparing.measured import measured
from shardprof.analysis.result import Finding
from shardprof.study.conclusions import conclude
from shardprof.study.conclusions.study_report import DOES_NOT_HOLD, HOLDS, UNKNOWN, Hypothesis, StudyReport
from shardprof.study.results import OUT_OF_MEMORY, Trial
from tests.unit.builders import MS
from tests.unit.studies import accuracies, cell, figure, losses, repeated, report, trial, volumes

TRACES = Path(__file__).parents[2] / "traces"


def finding(rule: str, title: str, cost_ms: float | None) -> Finding:
    cost_ns = None if cost_ms is None else round(cost_ms * MS)
    return Finding(
        rule=rule, severity="high", title=title, evidence=(), cost_ns_per_step=cost_ns, advice="", knob="",
        side_effect="", disproof="",
    )  # fmt: skip


def names(report: StudyReport) -> list[tuple[str, int, bool]]:
    return [(one.name, one.place, one.tied) for one in report.rankings[0].ranked]


# rankings


def test_cells_that_no_interval_tells_apart_share_a_place() -> None:
    """zero0 is faster than ddp in one repeat of three; zero3 is slower in all by the same ratio."""
    made = conclude(
        [
            *repeated(cell("ddp"), [100, 100, 100]),
            *repeated(cell("zero0"), [95, 104, 106]),
            *repeated(cell("zero3"), [150, 150, 150]),
        ]
    )
    assert names(made) == [("ddp", 1, True), ("zero0", 1, True), ("zero3", 3, False)]
    to_best = made.rankings[0].ranked[2].to_best
    assert to_best is not None
    assert to_best.value == pytest.approx(1.5)
    assert made.head.answer[0] == "ddp and zero0 are fastest and not told apart."


def fabrics(name: str, *steps_ms: float) -> Iterable[Trial]:
    """Steps at 8 Mbit/s, 80 Mbit/s, ..."""
    for index, step_ms in enumerate(steps_ms):
        yield from repeated(cell(name, nodes=2), [step_ms] * 3, fabric_bytes_per_s=10.0 ** (6 + index))


def test_rankings_cross_where_the_ratio_of_steps_is_one() -> None:
    """Twice the step at 1e6 B/s, half of it at 1e8 B/s: the same at 1e7."""
    made = conclude([*fabrics("fsdp2-hybrid", 100, 90, 80), *fabrics("ddp", 200, 90, 40)])
    (crossing,) = made.crossings
    assert (crossing.on_slow, crossing.on_fast) == ("fsdp2-hybrid", "ddp")
    assert crossing.near_bytes_per_s == pytest.approx(1e7)
    assert (crossing.slow_ratio.value, crossing.fast_ratio.value) == pytest.approx((0.5, 2.0))


def test_a_crossing_that_may_be_chance_is_none() -> None:
    slow = [repeated(cell(n, nodes=2), s, fabric_bytes_per_s=1e6) for n, s in (("a", [1, 1, 1]), ("b", [2, 2, 2]))]
    fast = [
        repeated(cell(n, nodes=2), s, fabric_bytes_per_s=1e8) for n, s in (("a", [1, 1, 1]), ("b", [0.8, 1.1, 0.9]))
    ]
    assert conclude([one for group in (*slow, *fast) for one in group]).crossings == ()


# scaling


def test_weak_scaling_is_held_against_the_fewest_ranks_and_what_is_lost_sums_up() -> None:
    small, large = report(compute=80, all_reduce=20), report(compute=85, all_reduce=60, data_loading=5, idle=10)
    made = conclude(
        [
            *repeated(cell("ddp", ranks=2), [100] * 3, measured={"report": small, "figures": p50(100)}),
            *repeated(cell("ddp", ranks=4), [125] * 3, measured={"report": large, "figures": p50(125)}),
        ]
    )
    (row,) = made.scaling
    assert (row.kind, row.base_ranks, row.situation.ranks) == ("weak", 2, 4)
    assert row.efficiency.value == pytest.approx(100 / 125)
    assert row.captured_efficiency == pytest.approx(100 / 160)
    lost = {"compute": 5 / 160, "communication": 40 / 160, "data_loading": 5 / 160, "idle": 10 / 160}
    assert row.lost == pytest.approx(lost)
    assert sum(row.lost.values()) == pytest.approx(1 - row.captured_efficiency)


def p50(step_ms: float) -> tuple[object, ...]:
    return (figure("step_time", step_ms, "ms", "p50"),)


def test_strong_scaling_expects_as_much_less_time_as_there_are_more_ranks() -> None:
    small, large = report(compute=80, all_reduce=20), report(compute=44, all_reduce=36)
    made = conclude(
        [
            *repeated(cell("ddp", ranks=2, batch_size=16), [100] * 3, measured={"report": small, "figures": p50(100)}),
            *repeated(cell("ddp", ranks=4, batch_size=8), [60] * 3, measured={"report": large, "figures": p50(60)}),
        ]
    )
    (row,) = made.scaling
    assert (row.kind, row.efficiency.value) == ("strong", pytest.approx(100 / (60 * 2)))
    assert row.captured_efficiency == pytest.approx(50 / 80)
    assert row.lost == pytest.approx({"compute": 4 / 80, "communication": 26 / 80})


def test_strong_scaling_keeps_the_micro_batches_of_a_step() -> None:
    """Both bases have a global batch of 16; one takes it in two micro-batches, which is another step."""
    made = conclude(
        [
            *repeated(cell("ddp", ranks=1, batch_size=16), [30] * 3),
            *repeated(cell("ddp", ranks=1, batch_size=8, accumulation=2), [60] * 3),
            *repeated(cell("ddp", ranks=2, batch_size=8), [25] * 3),
        ]
    )
    (row,) = made.scaling
    assert (row.kind, row.base_ranks, row.base_batch_size) == ("strong", 1, 16)
    assert row.efficiency.value == pytest.approx(30 / (25 * 2))


def test_several_nodes_scale_from_one_node_without_a_fabric_but_not_from_another_fabric() -> None:
    one_node = repeated(cell("ddp", ranks=2), [100] * 3)
    other = repeated(cell("ddp", ranks=4, nodes=2), [120] * 3, fabric_bytes_per_s=1e6)
    two_nodes = repeated(cell("ddp", ranks=8, nodes=2), [200] * 3, fabric_bytes_per_s=1e8)
    assert [row.base_ranks for row in conclude([*one_node, *two_nodes]).scaling] == [2]
    assert conclude([*other, *two_nodes]).scaling == ()


# convergence


def test_losses_in_fp32_are_held_against_ddp_at_the_same_samples() -> None:
    made = conclude(
        [
            trial(cell("ddp"), 100, measured={"losses": losses(2.0, 1.0, 0.5)}),
            trial(cell("fsdp2-full"), 100, measured={"losses": losses(2.0, 1.0002, 0.5)}),
            trial(cell("zero1"), 100, measured={"losses": losses(2.0, 1.0, 0.5)}),
            trial(cell("zero2", precision="bf16"), 100, measured={"losses": losses(9.0, 9.0, 9.0)}),
        ]
    )
    worst, agreeing = made.agreement
    assert (worst.name, worst.against, worst.at_step, worst.steps) == ("fsdp2-full", "ddp", 2, 3)
    assert worst.largest == pytest.approx(2e-4)
    assert (agreeing.name, agreeing.largest) == ("zero1", 0)


def test_agreement_is_of_the_first_50_steps_and_of_all() -> None:
    base = [2.0] * 60
    late = [*base[:55], 2.2, *base[56:]]
    made = conclude([trial(cell(n), 100, measured={"losses": losses(*v)}) for n, v in (("ddp", base), ("zero0", late))])
    (row,) = made.agreement
    assert (row.largest, row.steps, row.all_steps) == (0, 50, 60)
    assert row.parts_at == 56


def test_losses_at_other_samples_are_not_compared() -> None:
    made = conclude(
        [
            trial(cell("ddp"), 100, measured={"losses": losses(2.0, samples=16)}),
            trial(cell("zero0"), 100, measured={"losses": losses(2.0, samples=7)}),
        ]
    )
    assert made.agreement == ()


def test_learning_is_over_samples_and_seconds_since_the_first_step() -> None:
    figures = (figure("time_to_target", 2.5, "s"), figure("samples_to_target", 320, "samples"))
    one = trial(
        cell(), 100, length={"target_accuracy": 0.9},
        measured={"losses": losses(*[3.0] * 5, *[1.0] * 10), "accuracies": accuracies(0.5, 0.95), "figures": figures},
    )  # fmt: skip
    (row,) = conclude([one]).learning
    assert (row.loss, row.accuracy, row.target) == (1.0, 0.95, 0.9)
    assert (row.seconds_to_target, row.samples_to_target) == (2.5, 320)
    assert [(p.samples, round(p.seconds, 6), p.value) for p in row.losses[:2]] == [(16, 0, 3.0), (32, 0.1, 3.0)]


def test_a_target_that_was_never_reached_says_so() -> None:
    missing = figure("time_to_target", None, "s", missing="never reached 0.9")
    (row,) = conclude([trial(cell(), 100, measured={"losses": losses(1.0), "figures": (missing,)})]).learning
    assert (row.seconds_to_target, row.why_not) == (None, "never reached 0.9")


def test_long_curves_are_thinned_to_their_ends() -> None:
    (row,) = conclude([trial(cell(), 100, measured={"losses": losses(*range(1, 1001))})]).learning
    assert len(row.losses) == 200
    assert (row.losses[0].samples, row.losses[-1].samples) == (16, 16_000)


def test_losses_are_told_at_samples_that_all_cells_have_seen() -> None:
    long, short = losses(*[3.0] * 10, *[1.0] * 10, samples=16), losses(*[2.0] * 5, samples=32)
    made = conclude(
        [
            trial(cell("ddp", batch_size=8), 100, measured={"losses": short}),
            trial(cell("ddp", batch_size=16), 100, measured={"losses": long}),
        ]
    )
    told = [(row.loss, row.loss_at_equal, row.equal_samples) for row in made.learning]
    assert told == [(2.0, 2.0, 160), (1.0, 3.0, 160)]


def test_a_loss_that_is_no_number_is_told_and_compared_with_nothing() -> None:
    nan = float("nan")
    made = conclude(
        [
            trial(cell("ddp"), 100, measured={"losses": losses(2.0, 1.0, 1.0)}),
            trial(cell("zero1"), 100, measured={"losses": losses(2.0, nan, nan)}),
        ]
    )
    diverged = made.learning[1]
    assert (diverged.loss, diverged.diverged_at, len(diverged.losses)) == (None, 2, 1)
    assert [(row.largest, row.all_steps) for row in made.agreement] == [(0, 1)]


def diverging(step_ms: float) -> list[Trial]:
    """ZeRO-1 that skips its steps, and so sends less and takes less time."""
    figures = (*p50(step_ms), figure("volume_ratio", 1.0, "x", "per_theory"), figure("wire_bytes", 1, "bytes"))
    told = {"losses": losses(2.0, float("inf"), float("nan")), "figures": figures, "report": report(compute=9)}
    return repeated(cell("zero1"), [step_ms] * 3, measured=told)


def test_what_diverged_is_told_first_and_compared_with_nothing() -> None:
    made = conclude([*repeated(cell("ddp"), [100] * 3), *diverging(50), *repeated(cell("zero0"), [200] * 3)])
    assert made.head.answer[:2] == (
        "zero1 diverged: the loss is no number, so speed and bytes are compared with nothing.",
        "ddp is fastest.",
    )
    assert [one.name for one in made.rankings[0].ranked] == ["ddp", "zero0"]
    assert {one.name for one in made.decisions} == {"ddp"}
    assert {cause.slower for cause in made.causes} == {"zero0"}
    assert [claim.cases for claim in made.hypotheses[1].claims] == [0, 0]
    assert [one.diverged_at for one in made.cells] == [None, None, 2]


def test_where_all_diverged_there_is_nothing_to_compare() -> None:
    answer = conclude(diverging(50)).head.answer
    assert answer[1:] == ("Every training that finished diverged, so there is nothing to compare.",)


# failures


def test_trials_that_ended_alike_are_told_once() -> None:
    made = conclude(
        [
            trial(cell("zero3"), 100, figure("error_rate", 0.5, "count/h"), repeat=0),
            trial(cell("zero3"), repeat=1, status=OUT_OF_MEMORY, reason="rank 0 was killed"),
            trial(cell("zero3"), repeat=2, status=OUT_OF_MEMORY, reason="rank 0 was killed"),
            trial(cell("ddp"), 100),
        ]
    )
    (failure,) = made.failures
    assert (failure.name, failure.repeats, failure.status) == ("zero3", (1, 2), OUT_OF_MEMORY)
    worst, other = made.robustness
    assert (worst.name, worst.trials, worst.finished, worst.errors_per_hour) == ("zero3", 3, 1, 0.5)
    assert (other.name, other.finished, other.errors_per_hour) == ("ddp", 1, None)


# fairness


def test_what_is_unequal_is_told_once_for_all_pairs() -> None:
    def of(name: str, optimizer: str, weights: str = "abc") -> Trial:
        told = {"initial_weights": weights, "data_order": "def", "optimizer": optimizer}
        return trial(cell(name), 100, measured={"workload": told})

    made = conclude([of("ddp", "AdamW"), of("fsdp2-full", "AdamW"), of("zero1", "CPUAdam"), of("zero2", "CPUAdam")])
    (row,) = made.fairness.unequal
    assert (row.subject, row.pairs, row.situations) == ("optimizer", 4, 1)
    assert row.message == "AdamW in ddp and fsdp2-full, CPUAdam in zero1 and zero2"
    assert made.fairness.pairs == 6
    assert "initial weights" in made.fairness.equal
    assert "global batch 16" in made.fairness.equal


def test_which_of_a_pair_comes_first_does_not_matter() -> None:
    """By name the pairs are (ddp, fsdp2-full) and (fsdp2-full, zero1)."""
    optimizers = {"ddp": "CPUAdam", "fsdp2-full": "AdamW", "zero1": "CPUAdam"}
    made = conclude([trial(cell(n), 100, measured={"workload": {"optimizer": o}}) for n, o in optimizers.items()])
    (row,) = made.fairness.unequal
    assert (row.pairs, row.message) == (2, "AdamW in fsdp2-full, CPUAdam in ddp and zero1")


def test_other_weights_to_begin_with_are_not_comparable() -> None:
    one, other = (
        trial(cell(n), 100, measured={"workload": {"initial_weights": w}}) for n, w in (("ddp", "a"), ("zero1", "b"))
    )
    made = conclude([one, other]).fairness
    assert [(row.severity, row.subject) for row in made.unequal] == [("not comparable", "initial weights")]
    assert "order of data" in made.not_told
    assert "initial weights" not in made.equal


def test_facts_of_machines_that_changed_within_a_study_are_told() -> None:
    a = trial(cell("ddp"), 100, environment={"torch": "2.13", "commit": "a"})
    b = trial(cell("zero1"), 100, environment={"torch": "2.14", "commit": "a"})
    made = conclude([a, b])
    assert [(row.subject, row.message) for row in made.fairness.unequal] == [("torch", "2.13 in ddp, 2.14 in zero1")]
    assert made.head.environment == {"commit": "a"}


def test_facts_of_machines_that_changed_between_situations_are_told_too() -> None:
    a = trial(cell("ddp", batch_size=8), 100, environment={"commit": "a"})
    b = trial(cell("ddp", batch_size=16), 100, environment={"commit": "b"})
    assert conclude([a, b]).fairness.changed == ("commit (a in 1 trial, b in 1 trial)",)


def test_facts_of_machines_that_changed_while_cells_were_repeated_are_no_matter_of_cells() -> None:
    trials = [
        trial(cell(name), 100, repeat=repeat, environment={"commit": commit})
        for name in ("ddp", "zero1", "zero2")
        for repeat, commit in enumerate("ab")
    ]
    made = conclude(trials).fairness
    assert made.changed == ("commit (a in 3 trials, b in 3 trials)",)
    assert made.unequal == ()


def test_cells_of_two_situations_are_not_held_against_each_other() -> None:
    made = conclude([trial(cell("ddp", batch_size=8), 100), trial(cell("zero1", batch_size=16), 100)])
    assert made.fairness.pairs == 0


def test_real_reports_are_checked_as_compare_checks_them() -> None:
    made = conclude(real_trials())
    subjects = {row.subject: row for row in made.fairness.unequal}
    assert "arguments" not in subjects  # strategies differ by design
    assert subjects["runs"].message == "one trial of a cell finished: what differs from run to run is in no interval"
    assert "500,000,000 elements in zero3 holds all gradients" in subjects["buckets"].message


def real_trials() -> list[Trial]:
    """Trials with the reports of recorded runs."""
    return [
        trial(
            cell(name, batch_size=16), 80, measured={"report": measured([TRACES / folder]).result, "figures": p50(80)}
        )
        for name, folder in (("fsdp2-full", "fsdp2-vit-2ranks"), ("zero3", "zero3-vit-2ranks"))
    ]


# causes


def two_cells(slower_ms: list[float], **slower: object) -> StudyReport:
    fast = replace(
        report(compute=60, all_gather=20), findings=(finding("R04", "fewer", 10), finding("R09", "other", 5))
    )
    return conclude(
        [
            *repeated(cell("fsdp2-full"), [100] * 3, measured={"report": fast, "figures": p50(100)}),
            *(
                trial(cell("zero1"), repeat=i, measured={"figures": p50(ms), **slower})
                for i, ms in enumerate(slower_ms)
            ),
        ]
    )


def test_a_difference_is_told_by_class_and_by_the_findings_that_cost_more() -> None:
    slow = replace(
        report(compute=55, all_reduce=70, idle=5),
        findings=(finding("R04", "more bytes than needed", 30), finding("R12", "a large bucket", None)),
    )
    (cause,) = two_cells([150] * 3, report=slow).causes
    assert (cause.faster, cause.slower, cause.against, cause.is_told) == ("fsdp2-full", "zero1", "best", True)
    assert cause.captured_ns == 50 * MS
    assert cause.parts_ns == {"all_reduce": 70 * MS, "all_gather": -20 * MS, "compute": -5 * MS, "idle": 5 * MS}
    assert sum(cause.parts_ns.values()) == cause.captured_ns
    assert [(one.rule, one.cost_ns) for one in cause.findings] == [("R04", 20 * MS)]
    assert cause.sentence == (
        "zero1 takes 50 % longer than fsdp2-full; a captured step +50 ms: +70 ms exposed all-reduce and -20 ms exposed "
        "all-gather. R04, up to 20 ms: more bytes than needed"
    )


def test_no_cause_is_given_for_what_may_be_chance() -> None:
    slow = replace(report(compute=90), findings=(finding("R04", "more bytes than needed", 30),))
    (cause,) = two_cells([90, 101, 130], report=slow).causes
    assert not cause.is_told
    assert cause.findings == ()
    assert "cannot be told apart" in cause.sentence


def test_captured_steps_that_tell_another_story_explain_nothing() -> None:
    (cause,) = two_cells([150] * 3, report=report(compute=40)).causes
    assert "not in the captured steps (-40 ms)" in cause.sentence


def test_each_cell_is_held_against_the_best_and_the_next() -> None:
    made = conclude(
        [one for n, ms in (("ddp", 100), ("zero1", 110), ("zero2", 120)) for one in repeated(cell(n), [ms] * 3)]
    )
    pairs = [(cause.slower, cause.faster, cause.against) for cause in made.causes]
    assert pairs == [("zero1", "ddp", "best"), ("zero2", "ddp", "best"), ("zero2", "zero1", "next")]


# hypotheses


def zero(name: str, sent: int = 300, **settings: object) -> list[Trial]:
    """A strategy of DeepSpeed that needs 200 bytes."""
    told = {"reduce_bucket_elements": 500_000_000, "parameters": 1000} | settings
    made = volumes(
        {"parameters": 10, "buckets": 100}, reduce_scatter=(100, 0), all_reduce=(0, sent - 100), all_gather=(100, 100)
    )
    figures = (
        figure("step_time", 120, "ms", "p50"), figure("volume_ratio", sent / 200, "x", "per_theory"),
        figure("wire_bytes", sent, "bytes"),
    )  # fmt: skip
    of = replace(report("cuda", settings=told, compute=80, all_reduce=40), volumes=made)
    return repeated(cell(name), [120] * 3, measured={"figures": figures, "report": of})


def others(overlapped: float = 0.8, device: str = "cuda", step_ms: float = 100) -> list[Trial]:
    of = report(device, overlapped, compute=80, all_reduce=20)
    return repeated(cell("ddp"), [step_ms] * 3, measured={"figures": p50(step_ms), "report": of})


def hypothesis(trials: Iterable[Trial], number: int) -> Hypothesis:
    return conclude(list(trials)).hypotheses[number]


def test_that_large_buckets_overlap_nothing_holds_on_gpus_where_figures_say_so() -> None:
    made = hypothesis([*zero("zero2"), *others()], 0)
    assert [claim.verdict for claim in made.claims] == [HOLDS, HOLDS, HOLDS]
    assert (made.verdict, made.needs) == (HOLDS, "")


def test_it_does_not_hold_where_deepspeed_is_faster() -> None:
    made = hypothesis([*zero("zero2"), *others(step_ms=200)], 0)
    assert [claim.verdict for claim in made.claims] == [HOLDS, HOLDS, DOES_NOT_HOLD]
    assert made.verdict == DOES_NOT_HOLD


def test_without_gpus_it_cannot_be_refuted() -> None:
    made = hypothesis(others(overlapped=0.0, device="cpu"), 0)
    assert made.claims[1].verdict == DOES_NOT_HOLD
    assert made.verdict == UNKNOWN
    assert "GPUs" in made.needs


def test_one_rank_says_nothing_of_communication() -> None:
    """It sends nothing: neither that its gradients overlap nor that they do not, and its bytes are those of nobody."""
    alone = [
        replace(one, cell=replace(one.cell, ranks=1), cell_id=one.cell_id + "alone")
        for one in (*zero("zero2", sent=0), *others(overlapped=0.0, step_ms=300))
    ]
    for number in (0, 1):
        made = hypothesis([*zero("zero2"), *others(), *alone], number)
        assert made.verdict == HOLDS
        assert {claim.cases for claim in made.claims} == {1}


def test_a_study_on_one_rank_lacks_what_tells_of_communication() -> None:
    alone = [replace(one, cell=replace(one.cell, ranks=1)) for one in (*zero("zero2"), *others())]
    first, second, *_ = conclude(alone).hypotheses
    assert {claim.cases for one in (first, second) for claim in one.claims} == {0}
    assert "several ranks" in first.needs
    assert "several ranks" in second.needs


def test_what_a_bucket_takes_is_seen_on_one_rank_too() -> None:
    """Though no report tells the model states of a rank alone: it has no collectives to tell them by."""

    def of(knobs: str, elements: int, gib: float) -> list[Trial]:
        told = report("cuda", settings={"reduce_bucket_elements": elements, "parameters": 1000}, compute=10)
        figures = (*p50(100), figure("gpu_mem_allocated_peak", gib, "GiB"))
        return repeated(cell("zero2", ranks=1, knobs=knobs), [100] * 3, measured={"figures": figures, "report": told})

    larger, more = hypothesis([*of("as shipped", 500_000_000, 3), *of("small", 100, 1)], 2).claims
    assert (larger.verdict, larger.cases) == (UNKNOWN, 0)
    assert (more.verdict, more.cases) == (HOLDS, 1)


def test_small_buckets_are_no_case_of_large_ones() -> None:
    made = hypothesis([*zero("zero2", reduce_bucket_elements=100), *others()], 0)
    assert (made.claims[0].verdict, made.claims[0].cases) == (UNKNOWN, 0)


@pytest.mark.parametrize(("sent", "verdict"), [(300, HOLDS), (200, DOES_NOT_HOLD)])
def test_that_zero_sends_half_more_is_told_by_its_bytes(sent: int, verdict: str) -> None:
    made = hypothesis(zero("zero1", sent), 1)
    assert made.claims[1].verdict == verdict
    assert (made.claims[1].speak_for, made.claims[1].speak_against) == ((1, 0) if verdict == HOLDS else (0, 1))


def test_without_their_cells_hypotheses_cannot_be_told() -> None:
    made = conclude(repeated(cell("ddp"), [100] * 3)).hypotheses
    assert {one.verdict for one in made} == {UNKNOWN}
    assert all(one.needs for one in made)


def test_real_zero3_holds_a_bucket_that_is_larger_than_its_states() -> None:
    claim = hypothesis(real_trials(), 2).claims[0]
    assert (claim.verdict, claim.evidence) == (HOLDS, ("zero3: bucket 2.00 GB, model states 9.86 MB",))


def test_memory_and_traffic_are_held_against_the_fsdp_that_shards_the_same() -> None:
    def of(name: str, gib: float, sent: float) -> list[Trial]:
        figures = (*p50(100), figure("gpu_mem_allocated_peak", gib, "GiB"), figure("wire_bytes", sent, "bytes"))
        made = {"figures": figures, "report": report("cuda", compute=10)}
        return repeated(cell(name, nodes=2), [100] * 3, measured=made, fabric_bytes_per_s=1e9)

    trials = [*of("zero3", 2, 300), *of("fsdp2-full", 3, 200), *of("ddp", 1, 100)]
    made = hypothesis(trials, 3)
    assert made.verdict == HOLDS
    assert [claim.cases for claim in made.claims] == [1, 1]
    assert hypothesis([*of("zero3", 3, 300), *of("fsdp2-full", 2, 200)], 3).verdict == DOES_NOT_HOLD


# decisions


def candidate(name: str, step_ms: float, gib: float, sent: float) -> list[Trial]:
    return repeated(cell(name), [step_ms] * 3, figure("cpu_rss", gib, "GiB"), figure("wire_bytes", sent, "bytes"))


def decided(trials: Iterable[Trial]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for decision in conclude(list(trials)).decisions:
        found.setdefault(decision.name, []).append(decision.best_for)
    return found


def test_only_what_nothing_beats_in_everything_is_worth_taking() -> None:
    found = decided(
        [
            *candidate("ddp", 100, 4, 200),
            *candidate("fsdp2-full", 130, 2, 300),
            *candidate("fsdp2-grad-op", 120, 3, 250),
            *candidate("zero1", 120, 4, 300),
        ]
    )
    assert found == {
        "ddp": ["throughput", "least network traffic"],
        "fsdp2-full": ["least memory"],
        "fsdp2-grad-op": ["a compromise"],
    }


def test_what_all_do_as_well_nobody_is_best_for() -> None:
    found = decided([*candidate("ddp", 100, 2, 100), *candidate("fsdp2-full", 150, 1, 100)])
    assert found == {"ddp": ["throughput"], "fsdp2-full": ["least memory"]}


def test_what_fails_is_no_better_than_what_does_not() -> None:
    """The faster one lost a trial: neither beats the other in everything."""
    fast = candidate("zero3", 90, 2, 100)
    lost = trial(cell("zero3"), repeat=7, status=OUT_OF_MEMORY, reason="killed", measured={"figures": ()})
    assert set(decided([*fast, lost, *candidate("ddp", 100, 2, 100)])) == {"zero3", "ddp"}
    assert set(decided([*fast, *candidate("ddp", 100, 2, 100)])) == {"zero3"}


def test_ties_are_told_as_ties() -> None:
    both = [
        *repeated(cell("ddp"), [100, 100, 100]),
        *repeated(cell("zero0"), [95, 104, 106]),
        *repeated(cell("zero3"), [150] * 3),
    ]
    first, second = conclude(both).decisions
    assert {first.name, second.name} == {"ddp", "zero0"}
    assert first.tied_with == (second.name,)
    assert first.best_for == second.best_for == "throughput"


# the answer


def test_the_answer_says_how_much_the_best_of_deepspeed_and_the_others_differ() -> None:
    made = conclude(
        [*candidate("fsdp2-full", 100, 2, 1), *candidate("zero2", 120, 1, 1), *candidate("zero3", 150, 3, 1)]
    )
    assert made.head.answer == (
        "fsdp2-full is fastest.",
        "The best DeepSpeed configuration (zero2) takes 1.20 times the step of the best of FSDP and DDP (fsdp2-full).",
        "Least memory, by the resident memory of a rank's process: zero2.",
    )


def test_of_several_situations_the_answer_says_where_which_is_fastest() -> None:
    made = conclude([*fabrics("fsdp2-hybrid", 100, 80), *fabrics("zero0", 200, 40)])
    assert made.head.answer[:2] == (
        "fsdp2-hybrid is fastest at 8 Mbit/s; zero0 is fastest at 80 Mbit/s.",
        "Best configuration against best, DeepSpeed's step is, beside FSDP's and DDP's, longer in 1 of 2 situations "
        "(step time x2.00) and shorter in 1 of 2 situations (step time x0.50).",
    )
