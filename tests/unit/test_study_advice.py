"""The advice: bytes against the anchors of the literature, times by hand, ties told as ties, nonsense refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprof.cli import main
from shardprof.study.advice.answer import Advice, advise
from shardprof.study.advice.calibration import calibrated_by
from shardprof.study.advice.outlook import Outlook
from shardprof.study.advice.question import Calibration, Question, Range
from shardprof.study.advice.render import FORMATS
from shardprof.study.bench.cells import AS_SHIPPED, TUNED, Cell
from shardprof.study.bench.fit import DOES_NOT_FIT
from shardprof.study.results import FAILED, FINISHED, Figure, Measurement, StepTime, Trial

from .builders import rank, result

GIB = 2**30
VIT_B = 86_000_000
POSTER = Question(
    parameters=VIT_B, nodes=2, gpus_per_node=4, memory_bytes=40 * GIB, fabric_bytes_per_s=25e9, link_bytes_per_s=300e9
)
BILLIONS = replace(POSTER, parameters=1_300_000_000)
TIMED = replace(BILLIONS, peak_flops_per_s=312e12, tokens=8192)


def of(answer: Advice, strategy: str, knobs: str = AS_SHIPPED, *, checkpointing: bool = False) -> Outlook:
    (found,) = (o for o in answer.all if (o.strategy, o.knobs, o.checkpointing) == (strategy, knobs, checkpointing))
    return found


def sent(answer: Advice, strategy: str, knobs: str = AS_SHIPPED) -> float:
    outlook = of(answer, strategy, knobs)
    return outlook.inside_bytes + outlook.between_bytes


@pytest.mark.parametrize(
    ("strategy", "units"),
    [("ddp", 2), ("zero0", 2), ("zero1", 3), ("zero2", 3), ("fsdp2-full", 3), ("fsdp2-grad-op", 2), ("zero3", 2)],
)
def test_bytes_of_vit_b_on_eight_ranks_as_they_are_shipped(strategy: str, units: float) -> None:
    # In units of the model times 7/8, as measured: ZeRO-1 and 2 all-reduce, ZeRO-3 keeps what it gathered.
    unit = VIT_B * 4 * 7 / 8
    assert sent(advise(replace(POSTER, precision="fp32")), strategy) == pytest.approx(units * unit, rel=0.03)


def test_bytes_of_vit_b_in_bf16() -> None:
    answer = advise(POSTER)
    assert sent(answer, "zero1") == pytest.approx(452e6, rel=0.01)
    assert sent(answer, "fsdp2-full") == pytest.approx(452e6, rel=0.02)
    assert sent(answer, "zero3") == pytest.approx(301e6, rel=0.01)
    assert sent(answer, "ddp") == pytest.approx(2 * 301e6, rel=0.01)  # autocast leaves gradients in fp32
    assert of(answer, "zero1").between_bytes == pytest.approx(452e6 / 4, rel=0.01)  # one of four ranks is at the edge


def test_hybrid_sharding_sends_only_the_replicas_gradients_between_nodes() -> None:
    answer = advise(POSTER)
    assert of(answer, "fsdp2-hybrid").between_bytes == pytest.approx(VIT_B * 2 / 4, rel=0.01)  # 2(R-1)/R of a shard
    assert of(answer, "fsdp2-hybrid").between_bytes < of(answer, "fsdp2-full").between_bytes / 2


@pytest.mark.parametrize("gigabytes", [1, 5, 25])
def test_hybrid_beats_full_sharding_in_every_case_on_slow_fabrics(gigabytes: int) -> None:
    slow = replace(TIMED, fabric_bytes_per_s=gigabytes * 1e9)
    hybrid, full = (of(advise(slow), name).times_s for name in ("fsdp2-hybrid", "fsdp2-full"))
    assert all(a.low < b.low and a.high < b.high for a, b in zip(hybrid, full, strict=True))


def test_deepspeed_as_shipped_overlaps_no_gradients_below_half_a_billion_parameters() -> None:
    small, large = advise(replace(POSTER, parameters=499_000_000)), advise(BILLIONS)
    for strategy in ("zero0", "zero1", "zero2"):
        assert of(small, strategy).can_hide == of(large, strategy).can_hide == 0
    assert of(small, "zero3").can_hide < 0.52  # its gathers, not its gradients
    assert of(large, "zero3").can_hide > 0.7
    assert of(small, "zero2", TUNED).can_hide > 0.5
    assert of(small, "fsdp2-full").can_hide > 0.8
    assert of(small, "ddp").can_hide > 0.9


def test_a_step_of_zero0_by_hand() -> None:
    # Nothing hides: compute and network follow each other.
    answer = advise(TIMED)
    computes_s = 6 * 1.3e9 * 8192 / 312e12
    network_s = 2 * 7 / 8 * 2 * 1.3e9 / 25e9
    step = of(answer, "zero0").step_s
    assert step is not None
    assert step.low == pytest.approx(computes_s / 0.55 + network_s / 0.95)
    assert step.high == pytest.approx(computes_s / 0.25 + network_s / 0.6)


def test_a_step_of_ddp_by_hand() -> None:
    answer = advise(TIMED)
    computes_s, network_s = 6 * 1.3e9 * 8192 / 312e12 / 0.55, 2 * 7 / 8 * 4 * 1.3e9 / 25e9 / 0.95
    hideable_s = network_s * (1 - 25 * 2**20 / (4 * 1.3e9))
    step = of(answer, "ddp").step_s
    assert step is not None
    assert step.low == pytest.approx(computes_s + network_s - min(hideable_s, computes_s * 2 / 3))


def test_checkpointing_computes_a_third_more_and_takes_less_memory() -> None:
    answer = advise(TIMED)
    plain, again = (of(answer, "zero0", checkpointing=on) for on in (False, True))
    for a, b in zip(plain.times_s, again.times_s, strict=True):
        assert b.low > a.low
    assert again.most_tokens > 5 * plain.most_tokens
    assert again.fit.parts["activations"] < plain.fit.parts["activations"] / 5


def test_what_does_not_fit_comes_last_and_is_never_first() -> None:
    answer = advise(replace(TIMED, memory_bytes=24 * GIB))
    verdicts = [each.fit.verdict for each in answer.ranking]
    assert verdicts.index(DOES_NOT_FIT) == len(verdicts) - verdicts.count(DOES_NOT_FIT)
    assert answer.ranking[-1].strategy == "ddp"
    assert advise(replace(TIMED, memory_bytes=4 * GIB)).first is None


def test_ties_are_told_as_ties() -> None:
    answer = advise(TIMED)
    assert answer.tied > 1
    text = shown(answer)
    assert "cannot be told apart" in text
    assert "shardprof bench run benchmarks/studies/poster.toml" in text


def test_a_clear_case_is_told_as_clear() -> None:
    # A study whose figures are sharp tells strategies apart that the assumptions do not.
    sharp = {(name, False): Range(0.99, 1.01) for name in ("fsdp2-full", "fsdp2-grad-op", "zero3")}
    hybrid = {("fsdp2-hybrid", False): Range(0.5, 0.51)}
    answer = advise(replace(TIMED, calibration=Calibration(time=sharp | hybrid)))
    assert (answer.ranking[0].strategy, answer.tied) == ("fsdp2-hybrid", 1)
    assert "ahead of all others" in " ".join(shown(answer).split())


def test_thresholds_say_where_the_first_one_changes() -> None:
    for threshold in advise(TIMED).thresholds:
        field = {"fabric": "fabric_bytes_per_s", "memory": "memory_bytes", "parameters": "parameters"}[threshold.axis]
        cast = float if threshold.axis == "fabric" else round
        back = threshold.value * (0.998 if threshold.upwards else 1.002)
        then = advise(replace(TIMED, **{field: cast(threshold.value)})).first
        assert (then.strategy if then else None) == threshold.strategy
        assert advise(replace(TIMED, **{field: cast(back)})).ranking[0].strategy == advise(TIMED).ranking[0].strategy


@settings(max_examples=25, deadline=None)
@given(
    st.integers(10**6, 10**11), st.integers(1, 64), st.sampled_from([1, 2, 4, 8]), st.sampled_from([16, 40, 80]),
    st.floats(1e8, 1e11),
)  # fmt: skip
def test_any_machines_get_an_answer_that_holds_together(
    parameters: int, nodes: int, gpus: int, gibibytes: int, fabric: float
) -> None:
    if nodes * gpus < 2:
        return
    answer = advise(
        replace(
            TIMED, parameters=parameters, nodes=nodes, gpus_per_node=gpus, memory_bytes=gibibytes * GIB,
            fabric_bytes_per_s=fabric,
        )
    )  # fmt: skip
    assert len({(each.strategy, each.knobs) for each in answer.ranking}) == len(answer.ranking)
    for each in answer.all:
        assert 0 <= each.can_hide <= 1
        assert each.network_s.low <= each.network_s.high
        assert all(0 < time.low <= time.high for time in each.times_s)
        assert min(each.inside_bytes, each.between_bytes) >= -1e-3
    shown(answer)


def shown(answer: Advice, form: str = "terminal") -> str:
    out = io.StringIO()
    FORMATS[form](answer, out)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for question in (TIMED, BILLIONS, replace(BILLIONS, memory_bytes=4 * GIB), replace(POSTER, nodes=1)):
        text = shown(advise(question))
        commands = [line for line in text.splitlines() if "shardprof bench run" in line]
        assert all(len(line) <= width for line in text.splitlines() if line not in commands)
        assert " fits " in text  # the column that a narrow terminal must not lose


def test_what_comes_next_is_a_study_on_as_many_nodes() -> None:
    several, one = (shown(advise(question)) for question in (POSTER, replace(POSTER, nodes=1)))
    assert ("poster.toml" in several, "single-node.toml" in several) == (True, False)
    assert ("poster.toml" in one, "single-node.toml" in one) == (False, True)


def test_nothing_comes_next_where_nothing_fits() -> None:
    for form in ("terminal", "markdown"):
        assert "shardprof bench run" not in shown(advise(replace(BILLIONS, memory_bytes=4 * GIB)), form)


def test_json_has_everything() -> None:
    told = json.loads(shown(advise(TIMED), "json"))
    assert told["schema"] == "shardprof.advice/1"
    assert len(told["all"]) == 2 * len(told["ranking"]) == 22
    assert told["ranking"][0]["fit"]["parts"]["context"]


def test_markdown_has_a_row_a_strategy() -> None:
    lines = shown(advise(TIMED), "markdown").splitlines()
    assert sum(line.startswith("|") for line in lines) == 11 + 2


ASKED = ["advise", "--params", "1.3e9", "--nodes", "2", "--gpus-per-node", "4", "--memory", "40GiB"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([], "add --fabric"),
        (["--fabric", "25"], "write it like 25GB/s"),
        (["--fabric", "25GB/s", "--memory", "40"], "write it like 40GiB"),
        (["--fabric", "25GB/s", "--params", "many"], "write it like 1.3e9"),
        (["--fabric", "25GB/s", "--gpus-per-node", "0"], "--gpus-per-node: '0' is no number: it is not positive; "),
        (["--fabric", "25GB/s", "--nodes", "0"], "--nodes: '0' is no number: it is not positive; write it like 4"),
        (["--fabric", "25GB/s", "--params", "1e400"], "--params: '1e400' is no number: it is too large"),
        (["--nodes", "1", "--gpus-per-node", "1"], "two GPUs or more"),
        (["--fabric", "25GB/s", "--nodes", "1e9"], "no machines"),
        (["--fabric", "25GB/s", "--gpu", "a100"], "add --tokens"),
        (["--fabric", "25GB/s", "--tokens", "8192"], "add --gpu or --peak"),
        (["--fabric", "25GB/s", "--gpu", "abacus", "--tokens", "1"], "use one of a100"),
        (["--fabric", "25GB/s", "--gpu", "v100", "--tokens", "1"], "v100 has no bf16"),
    ],
)
def test_nonsense_is_one_line_and_exit_code_2(
    changes: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, *changes]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert says in told.err


def test_the_command_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--fabric", "25GB/s"]) == 0
    assert "first to try" in " ".join(capsys.readouterr().out.split())


def trial(strategy: str = "zero0", *, wall_ms: float = 200.0, device: str = "cuda", **changes: Any) -> Trial:
    """Two steps of a training on 2x4 GPUs that computes for 150 ms."""
    facts = BILLIONS.facts(checkpointing=False)
    workload = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
    figures = (("compute_only", 100.0), ("overlap", 50.0))
    cell = Cell(
        strategy=strategy, knobs=AS_SHIPPED, precision="bf16", checkpointing=False, batch_size=8192, accumulation=1,
        model="made", ranks=8, nodes=2,
    )  # fmt: skip
    made = {
        "trial_id": "1", "study": "made", "cell_id": "1", "cell": cell, "knobs": {}, "length": {}, "repeat": 1,
        "position": 1, "status": FINISHED, "started_ns": 0, "seconds": 1.0, "fabric_bytes_per_s": 25e9,
        "environment": {},
        "measurement": Measurement(
            figures=tuple(Figure(name=name, value=value, unit="ms") for name, value in figures),
            steps=tuple(StepTime(step=n, wall_ns=round(wall_ms * 1e6), counts=n > 1) for n in (1, 2, 3)),
            workload=workload,
            report=result(rank(0, device=device)),
        ),
    }  # fmt: skip
    return Trial(**{**made, **changes})


def test_a_study_shifts_and_narrows_what_is_predicted() -> None:
    # ZeRO-0 hides nothing: 150 ms of compute, and 2 x 7/8 x 2.6 GB at 25 GB/s times (0.6 + 0.95) / 2.
    predicted_ms = 150 + 1e3 * 2 * 7 / 8 * 2.6e9 / (25e9 * 0.775)
    told = calibrated_by([trial(wall_ms=1.2 * predicted_ms), trial(wall_ms=1.3 * predicted_ms)])
    ratio = told.time["zero0", False]
    assert (ratio.low, ratio.high) == pytest.approx((1.2, 1.3))
    plain, leaning = (of(advise(replace(TIMED, calibration=c)), "zero0") for c in (Calibration(), told))
    for a, b in zip(plain.times_s, leaning.times_s, strict=True):
        assert (b.low, b.high) == pytest.approx((1.2 * a.middle, 1.3 * a.middle))
    assert leaning.measured


def test_measured_memory_counts_more_than_the_formula() -> None:
    held = of(advise(TIMED), "zero0").fit
    of_torch = held.peak_bytes - held.parts["context"]
    measured = trial()
    figure = Figure(name="gpu_mem_allocated_peak", value=1.5 * of_torch / GIB, unit="GiB")
    told = calibrated_by(
        [replace(measured, measurement=replace(measured.measurement, figures=(*measured.measurement.figures, figure)))]
    )
    assert told.memory["zero0", False].high == pytest.approx(1.5)
    assert of(advise(replace(TIMED, calibration=told)), "zero0").fit.verdict == DOES_NOT_FIT


@pytest.mark.parametrize(
    ("unusable", "why"),
    [
        (trial(device="cpu"), "did not train on GPUs"),
        (trial(status=FAILED), "not finished"),
        (trial(fabric_bytes_per_s=None), "send each other is not told"),
        (trial(measurement=Measurement(report=result(rank(0)))), "no step times"),
    ],
)
def test_what_a_study_cannot_tell_is_said(unusable: Trial, why: str) -> None:
    told = calibrated_by([unusable])
    assert not told.time
    assert told.notes[0].startswith("nothing in the study is usable")
    assert why in told.notes[1]
    assert why in " ".join(shown(advise(replace(TIMED, calibration=told))).split())
