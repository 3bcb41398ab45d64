"""Comparing runs: sums that are exact, intervals that are the same everywhere, what is fair, what is shown.

The texts in tests/golden/compare are `COLUMNS=80 shardprof compare A B > A.B.txt`, run in traces/; that is also how
they are renewed.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rich.cells import cell_len

from shardprof import cli
from shardprof.analysis.comparing.compare import compare
from shardprof.analysis.comparing.comparison import Caveat, Comparison, PerStep
from shardprof.analysis.comparing.measured import Measured, measured
from shardprof.analysis.comparing.resampling import Sample, change_interval, interval, mean, median_low
from shardprof.analysis.comparing.work import Work, work_of
from shardprof.analysis.report import analyse
from shardprof.analysis.result import Notice, Result
from shardprof.errors import ShardprofError
from shardprof.render import _compare_terminal
from shardprof.render._compare import FORMATS
from shardprof.render._compare_verdict import verdict
from shardprof.render._compare_view import compare_view
from shardprof.trace.classes import CLASSES
from shardprof.trace.quality import Quality
from shardprof.trace.run import load
from tests.conftest import COMM, Trace, distributed_info

from .builders import MS, always_on, rank, result, step

REPOSITORY = Path(__file__).parents[2]
TRACES = Path(os.environ.get("SHARDPROF_TRACES", REPOSITORY.parent / "shared" / "traces"))
GOLDEN = sorted((REPOSITORY / "tests" / "golden" / "compare").glob("*.txt"))
BEFORE, AFTER = (TRACES / "before-after" / f"{name}.json.gz" for name in ("control", "test"))
needs_traces = pytest.mark.skipif(not BEFORE.exists(), reason=f"the public traces are not in {TRACES}")


def of(report: Result, **fields: Any) -> Measured:
    return Measured(result=report, **({"memory_bytes": {}} | fields))


def run(*walls_ms: float, **fields: Any) -> Measured:
    """A run of one rank whose steps only compute for so long."""
    return of(result(rank(0, *(step(number, compute=wall) for number, wall in enumerate(walls_ms, 10)))), **fields)


def calling(calls: Mapping[str, int], payload: Mapping[str, int | None], *, steps: int = 2) -> Measured:
    """A run whose steps each launch these collectives."""
    made = dataclasses.replace(step(10, compute=9, all_gather=1), comm_calls=dict(calls), comm_bytes=dict(payload))
    numbered = [dataclasses.replace(made, step=number) for number in range(10, 10 + steps)]
    return of(result(rank(0, *numbered)))


def rendered(comparison: Comparison, how: str = "terminal") -> str:
    out = io.StringIO()
    FORMATS[how](comparison, out)
    return out.getvalue()


CAPTURED = [100.0, 101.0, 102.0, 103.0, 104.0, 100.0]


def subjects(comparison: Comparison, severity: str) -> list[str]:
    return [caveat.subject for caveat in comparison.caveats if caveat.severity == severity]


Partitions = some.lists(
    some.fixed_dictionaries({name: some.integers(0, 10**7) for name in CLASSES}), min_size=1, max_size=7
)


@settings(max_examples=25)
@given(Partitions, Partitions)
def test_the_waterfall_sums_to_the_nanosecond(a: list[dict[str, int]], b: list[dict[str, int]]) -> None:
    comparison = compare([with_parts(a)], [with_parts(b)])
    assert comparison.a.mean_ns is not None
    assert comparison.b.mean_ns is not None
    assert sum(part.a_ns for part in comparison.waterfall) == comparison.a.mean_ns
    assert sum(part.b_ns for part in comparison.waterfall) == comparison.b.mean_ns
    assert comparison.a.mean_ns + sum(part.change_ns for part in comparison.waterfall) == comparison.b.mean_ns
    for part in comparison.waterfall:
        assert abs(part.a_ns - sum(parts[part.name] for parts in a) / len(a)) < 1
    changes = [abs(part.change_ns) for part in comparison.waterfall]
    assert changes == sorted(changes, reverse=True)


def with_parts(partitions: list[dict[str, int]]) -> Measured:
    steps = [step(number, **{name: ns / MS for name, ns in parts.items()}) for number, parts in enumerate(partitions)]
    return of(result(rank(0, *steps)))


def test_the_bars_end_where_the_next_begins_and_reach_b() -> None:
    a, b = step(10, compute=60, all_gather=30, idle=10), step(10, compute=55.5, all_reduce=44, idle=10.04)
    bars = compare_view(compare([of(result(rank(0, a)))], [of(result(rank(0, b)))])).waterfall
    assert [bar.label for bar in bars] == ["A", "all-reduce", "all-gather", "compute", "the rest", "B"]
    assert [bar.figure for bar in bars] == ["100.0 ms", "+44.0 ms", "-30.0 ms", "-4.5 ms", "<0.1 ms", "109.5 ms"]
    assert all(before.end_ns == after.begin_ns for before, after in itertools.pairwise(bars[:-1]))
    assert bars[-2].end_ns == bars[-1].end_ns == b.wall_ns


def test_a_figure_a_step_is_an_integer_where_it_is_exact() -> None:
    assert (PerStep(12, 4).per_step, type(PerStep(12, 4).per_step)) == (3, int)
    assert PerStep(10, 4).per_step == 2.5
    assert dataclasses.asdict(PerStep(10, 4)) == {"total": 10, "steps": 4, "per_step": 2.5}


def test_bytes_are_compared_by_kind() -> None:
    a = calling({"all_gather": 9, "reduce_scatter": 5}, {"all_gather": 600, "reduce_scatter": 300})
    b = calling({"all_gather": 1, "all_reduce": 2}, {"all_gather": 300, "all_reduce": 304}, steps=3)
    comparison = compare([a], [b])
    moved = {row.kind: (row.a.payload_bytes, row.b.payload_bytes) for row in comparison.kinds}
    assert moved == {
        "all_gather": (PerStep(1200, 2), PerStep(900, 3)),
        "reduce_scatter": (PerStep(600, 2), PerStep(0, 3)),
        "all_reduce": (PerStep(0, 2), PerStep(912, 3)),
    }
    assert comparison.all_kinds is not None
    assert comparison.all_kinds.a.payload_bytes == PerStep(1800, 2)
    assert comparison.all_kinds.b.calls == PerStep(9, 3)
    assert "moves 0.67 times the bytes, with all-reduce instead of reduce-scatter" in verdict(comparison)
    rows = [line for line in rendered(comparison).splitlines() if line.strip().startswith(("all-", "reduce-"))]
    assert any(line.split()[-2:] == ["-300", "B"] for line in rows)


def test_sizes_that_are_not_known_stay_unknown() -> None:
    comparison = compare(
        [calling({"all_gather": 1}, {"all_gather": None})], [calling({"all_gather": 1}, {"all_gather": 4})]
    )
    assert comparison.kinds[0].a.payload_bytes is None
    assert "unknown → 4 B" in rendered(comparison)
    assert "moves" not in verdict(comparison)
    uncounted = of(result(rank(0, step(10, all_gather=5))))
    assert compare([uncounted], [uncounted]).kinds[0].a.calls is None


def test_the_median_is_the_reports() -> None:
    ranks = [rank(i, *(step(n, compute=10 + 7 * i + n % 3) for n in range(10, 16))) for i in range(3)]
    report = result(*ranks)
    assert report.summary is not None
    assert report.summary.steps is not None
    assert compare([of(report)], [of(report)]).a.median_ns == report.summary.steps.median.wall_ns


def test_a_change_is_told_from_chance() -> None:
    same = compare([run(100, 101, 99, 102, 98)], [run(101, 99, 100, 98, 102)])
    assert same.change_interval is not None
    assert same.change_interval.low <= 0 <= same.change_interval.high
    assert "as long as A's as far as these steps tell" in verdict(same)
    slower = compare([run(100, 101, 99, 102, 98)], [run(121, 119, 120, 118, 122)])
    assert slower.change == pytest.approx(0.2)
    assert slower.change_interval is not None
    assert 0.15 < slower.change_interval.low <= 0.2 <= slower.change_interval.high < 0.25
    assert verdict(slower).startswith("B's step is 20 % longer (95 %: +1")
    assert "+20.0 ms compute" in verdict(slower)
    assert verdict(compare([run(100, 100)], [run(50, 50)])).startswith("B's step is 50 % shorter")
    assert verdict(compare([run(100, 100)], [run(300, 300)])).startswith(
        "B's step takes 3 times as long (95 %: 3 to 3)"
    )
    assert verdict(compare([run(1000)], [run(21)])).startswith("B's step takes 0.021 times as long: -979 ms compute")
    assert verdict(compare([run(100, 100)], [run(100, 100)])).startswith("B's step is as long as A's")


def recorded(*walls_ms: float, captured_ms: float = 100) -> Measured:
    """A run whose steps took so long without the profiler, and about as long as `captured_ms` with it."""
    steps = [step(number, compute=captured_ms + number % 5) for number in range(10, 16)]
    times_ns = [wall * MS for wall in walls_ms]
    made = result(rank(0, *steps, always_on=always_on(median(walls_ms))), source={"paths": (f"{walls_ms[0]}ms",)})
    return of(made, recorded_ns=times_ns)


def test_the_headline_believes_the_records() -> None:
    a, slower, alike = recorded(80, 81, 79, 80, 82), recorded(120, 121, 119, 120, 122), recorded(80, 82, 79, 81, 80)
    assert verdict(compare([a], [a])) == verdict(compare([run(*CAPTURED)], [run(*CAPTURED)]))
    assert verdict(compare([a], [alike])).startswith("B's step is as long as A's as far as these steps tell, +0.0 %")
    told = verdict(compare([a], [slower]))
    assert told.startswith("B's step is 50 % longer without the profiler (95 %: +4")
    assert " %), +0.0 % (95 %: -" in told
    assert told.endswith(" in the captured steps.")
    costly = verdict(compare([a], [recorded(80, 82, 79, 81, 80, captured_ms=130)]))
    assert costly.startswith(
        "B's step is as long as A's without the profiler as far as these steps tell, +0.0 % (95 %: -"
    )
    assert costly.endswith(" in the captured steps: +30.0 ms compute.")
    for sides in ([a], [slower]), ([slower], [a]):
        assert compare_view(compare(*sides)).next_commands[0][0] == "shardprof report 120ms"


def test_what_too_few_steps_were_recorded_of_is_not_in_the_headline() -> None:
    assert "profiler" not in verdict(compare([recorded(80)], [recorded(120)]))
    saved = dataclasses.replace(recorded(120, 121), recorded_ns=())
    comparison = compare([recorded(80, 81)], [saved])
    assert comparison.recorded_change == pytest.approx(0.497, abs=0.001)
    assert comparison.recorded_change_interval is None
    assert "profiler" not in verdict(comparison)


def test_runs_without_a_captured_step_are_compared_by_their_records() -> None:
    a, b = (
        of(result(rank(0, always_on=always_on(wall))), recorded_ns=[wall * MS, wall * MS + 1]) for wall in (80, 120)
    )
    told = "B's step is 50 % longer without the profiler (95 %: +50 % to +50 %)"
    assert verdict(compare([a], [b])) == f"{told}: A and B have no captured step that holds work."


def test_of_very_many_recorded_steps_some_are_drawn() -> None:
    many = [recorded(*(wall + number % 701 / 100 for number in range(5000))) for wall in (80, 88)]
    lies = compare([many[0]], [many[1]]).recorded_change_interval
    assert lies is not None
    assert 0.08 < lies.low < 8 / 83.5 < lies.high < 0.12


def test_recorded_steps_are_those_that_nothing_disturbed() -> None:
    told = measured([REPOSITORY / "traces" / "fsdp2-vit-2ranks"])
    assert len(told.recorded_ns) == 3
    assert sorted(round(time_ns / MS) for time_ns in told.recorded_ns) == [84, 85, 102]


def test_intervals_are_the_same_every_time() -> None:
    sample = Sample([[[5.0], [7.0], [6.0]], [[9.0], [8.0]]])
    lies = interval(sample, median_low)
    assert lies == interval(sample, median_low)
    assert lies is not None
    assert (lies.low, lies.high) == (5.0, 9.0)
    assert sample.figure(median_low) == 7.0
    assert sample.figure(mean) == 7.0


def test_more_ranks_of_the_same_steps_make_nothing_surer() -> None:
    walls = [100.0, 104.0, 97.0, 101.0, 95.0]
    alone, many = Sample([[[wall] for wall in walls]]), Sample([[[wall] * 64 for wall in walls]])
    assert interval(alone, median_low) == interval(many, median_low)


def test_runs_that_differ_make_it_less_sure() -> None:
    steps = [[100.0], [101.0], [102.0]], [[130.0], [131.0], [132.0]]
    as_one, as_two = Sample([[*steps[0], *steps[1]]]), Sample(list(steps))
    one, two = interval(as_one, mean), interval(as_two, mean)
    assert one is not None
    assert two is not None
    assert two.high - two.low > one.high - one.low


def test_a_single_step_has_no_interval() -> None:
    alone = Sample([[[100.0, 90.0]]])
    assert interval(alone, median_low) is None
    assert change_interval(alone, Sample([[[1.0], [2.0]]]), mean) is None
    assert change_interval(Sample([[[0.0], [2.0]]]), Sample([[[1.0], [2.0]]]), mean) is None  # of nothing
    assert Sample([[]]).figure(mean) is None


def test_a_run_without_steps_is_not_compared() -> None:
    nothing = of(result(rank(0, always_on=always_on(50))))
    comparison = compare([nothing], [run(10, 20)])
    assert (comparison.change, comparison.waterfall, comparison.kinds, comparison.kernels) == (None, (), (), None)
    assert comparison.a.recorded_ns == 50 * MS
    assert subjects(comparison, "not comparable") == ["steps"]
    for how in FORMATS:
        assert "shardprof" in rendered(comparison, how)
    assert "A has no captured step" in rendered(comparison)
    assert "A and B have no captured step" in rendered(compare([nothing], [nothing]))


SETTINGS = {
    "precision": "fp32",
    "reduce_dtype": "fp32",
    "elements_by_dtype": {"fp32": 100},
    "parameters": 100,
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 1,
}


def set_up(device: str = "cuda", **source: Any) -> Measured:
    settings = {"settings": SETTINGS, "device_name": "H100", "world_size": 1, "kind": "run", "exit_code": 0}
    steps = [step(number, compute=10) for number in range(10, 16)]
    return of(result(rank(0, *steps, device=device), source=settings | source))


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"device": "cpu"}, "processors"),
        ({"device_name": "A100"}, "GPU"),
        ({"world_size": 2}, "ranks"),
        ({"settings": SETTINGS | {"precision": "bf16"}}, "precision"),
        ({"settings": SETTINGS | {"parameters": 101}}, "parameters"),
        ({"settings": SETTINGS | {"micro_batch_size": 8}}, "batch of a rank"),
        ({"settings": SETTINGS | {"gradient_accumulation_steps": 2}}, "gradient accumulation"),
        ({"settings": SETTINGS | {"reduce_dtype": "bf16"}}, "reduce type"),
        ({"settings": SETTINGS | {"elements_by_dtype": {"bf16": 9, "fp32": 0}}}, "master weights"),
    ],
)
def test_what_is_not_comparable_is_said(change: dict[str, Any], subject: str) -> None:
    comparison = compare([set_up()], [set_up(**change)])
    assert subjects(comparison, "not comparable") == [subject]
    assert f"they differ in {subject}" in rendered(comparison)
    in_a_group = compare([set_up(), set_up(**change)], [set_up(), set_up(**change)])
    assert subject in subjects(in_a_group, "not comparable")


@pytest.mark.parametrize(
    ("change", "subject", "words"),
    [
        ({"versions": {"torch": "2.9"}}, "versions", "torch is none in A, 2.9 in B"),
        ({"settings": SETTINGS | {"offload_optimizer": "cpu"}}, "", ""),
        ({"exit_code": 1}, "exit code", "exit code 1"),
        ({"settings": {k: v for k, v in SETTINGS.items() if k != "precision"}}, "precision", "not told of B"),
        ({"settings": SETTINGS | {"reduce_bucket_elements": 500}}, "buckets", "holds all gradients"),
        ({"settings": SETTINGS | {"reduce_bucket_elements": 50}}, "", ""),
        ({"settings": SETTINGS | {"elements_by_dtype": {"bf16": 9}, "master_weights": True}}, "", ""),
        ({"settings": SETTINGS | {"optimizer": "FusedAdam"}}, "", ""),
    ],
)
def test_what_to_mind_is_said(change: dict[str, Any], subject: str, words: str) -> None:
    comparison = compare([set_up()], [set_up(**change)])
    assert subjects(comparison, "not comparable") == []
    assert [s for s in subjects(comparison, "mind") if s != "runs"] == ([subject] if subject else [])
    assert words in " ".join(caveat.message for caveat in comparison.caveats)


def test_alike_runs_have_nothing_to_mind() -> None:
    assert compare([set_up(), set_up()], [set_up(), set_up()]).caveats == ()
    one_each = Caveat(
        severity="mind",
        subject="runs",
        message="one run of each side: what differs from run to run is not in the interval",
    )
    assert compare([set_up()], [set_up()]).caveats == (one_each,)
    few = of(result(rank(0, step(3, compute=10)), source={"kind": "run"}))
    assert subjects(compare([few], [few]), "mind") == ["batch of a rank", "few steps", "warm-up", "runs"]


def test_low_precision_between_frameworks_asks_for_master_weights() -> None:
    lower = {"precision": "fp16", "micro_batch_size": 4}
    sides = [set_up(settings=lower, framework=name) for name in ("FSDP2", "DeepSpeed")]
    assert {"master weights, reduce type", "skipped steps"} <= set(subjects(compare([sides[0]], [sides[1]]), "mind"))
    assert "master weights, reduce type" not in subjects(compare([sides[0]], [sides[0]]), "mind")
    told = [set_up(settings=SETTINGS | lower, framework=name) for name in ("FSDP2", "DeepSpeed")]
    assert "master weights, reduce type" not in subjects(compare([told[0]], [told[1]]), "mind")


def test_options_of_the_commands_are_compared() -> None:
    a = set_up(settings={}, command="torchrun --nproc-per-node 2 train.py --lr 0.1 --batch_size=4 --fused --api-key s1")
    b = set_up(settings={}, command="torchrun --nproc-per-node 4 train.py --lr 0.2 --batch-size 4 --api-key s2")
    comparison = compare([a], [b])
    told = {caveat.subject: caveat.message for caveat in comparison.caveats}
    assert told["arguments"] == "fused is given in A, none in B; lr is 0.1 in A, 0.2 in B"
    assert "batch of a rank" not in told
    assert "s1" not in rendered(comparison)
    c = set_up(settings={}, command="torchrun train.py --lr 0.1 --batch-size 8 'unclosed")
    assert "batch of a rank" not in subjects(compare([a], [c]), "not comparable")
    d = set_up(settings={"micro_batch_size": 8})
    assert "batch of a rank" in subjects(compare([a], [d]), "not comparable")


def test_the_environment_is_compared_where_both_have_it() -> None:
    told, empty = [dataclasses.replace(run(10, 10), environment=env) for env in ({"NCCL_ALGO": "Ring"}, {})]
    messages = [c.message for c in compare([told], [empty]).caveats if c.subject == "environment"]
    assert messages == ["NCCL_ALGO is Ring in A, none in B"]
    assert "environment" not in subjects(compare([told], [run(10, 10)]), "mind")


def test_memory_is_the_most_of_any_run_and_only_where_both_have_it() -> None:
    a = [run(10, memory_bytes={"rss_bytes": size, "peak_reserved_bytes": 5}) for size in (100, 300)]
    b = run(10, memory_bytes={"rss_bytes": 200})
    (row,) = compare(a, [b]).memory
    assert (row.name, row.a, row.b) == ("rss_bytes", 300, 200)
    assert "-33 %" in rendered(compare(a, [b]))


def test_notices_findings_and_doubts_come_and_go() -> None:
    def shows(code: str, *findings: Any) -> Measured:
        told = Notice(code=code, message="m", host="h", ranks=(0,), begin_ns=0, end_ns=1, steps=None)
        doubt = Quality(code="lost_events", message=f"lost in {code}")
        return of(result(rank(0, step(10, compute=5)), notices=(told,), quality=(doubt,), findings=findings or None))

    finding = {"rule": "R05", "title": "no overlap"}
    comparison = compare([shows("swapping", finding)], [shows("threads", finding, {"rule": "R01", "title": "late"})])
    assert (comparison.notices.went, comparison.notices.came) == (("swapping: m",), ("threads: m",))
    assert comparison.findings is not None
    assert (comparison.findings.went, comparison.findings.came) == ((), ("R01: late",))
    assert comparison.doubts.came == ()
    assert "only B: threads: m" in rendered(comparison)
    assert compare([shows("swapping")], [shows("threads", finding)]).findings is None


def gpu_trace(*, kernels: int, copy: bool, elements: int = 4) -> Trace:
    """Two steps of 1000 ns; kernels outside them do not count."""
    made = Trace(distributed_info(0, [0, 1]))
    metadata = {"Collective_name": "allreduce", "In_msg_nelems": elements, "dtype": "Float", "Group_size": 2}
    for begin in (0, 1000):
        made.step(begin // 1000, begin, begin + 1000)
        for i in range(kernels):
            made.launch(begin + i, begin + 10).kernel(
                "gemm", begin + 20 * i + 20, begin + 20 * i + 30, correlation=begin + i
            )
        made.launch(begin + 90, begin + 15)
        made.kernel("ncclDevKernel_AllReduce", begin + 500, begin + 600, correlation=begin + 90, **metadata)
        if copy:
            made.kernel("Memcpy HtoD", begin + 700, begin + 750, cat="gpu_memcpy")
    return made.kernel("late", 2500, 2600)


def compared(a: Path, b: Path) -> Comparison:
    return compare([measured([a], with_work=True)], [measured([b], with_work=True)])


def test_kernels_that_changed_are_named(tmp_path: Path) -> None:
    a = gpu_trace(kernels=3, copy=True).write(tmp_path / "a.json")
    b = gpu_trace(kernels=1, copy=False, elements=6).write(tmp_path / "b.json")
    comparison = compared(a, b)
    assert comparison.kernels is not None
    assert comparison.on_gpu
    told = {row.name: (row.a_ns, row.b_ns, row.a_calls.per_step, row.b_calls.per_step) for row in comparison.kernels}
    assert told == {"Memcpy HtoD": (50, 0, 1, 0), "gemm": (30, 10, 3, 1)}
    assert comparison.calls is not None
    sizes = [(row.kind, row.call_bytes, row.a_calls.total, row.b_calls.total) for row in comparison.calls]
    assert sizes == [("all_reduce", 24, 0, 2), ("all_reduce", 16, 2, 0)]
    assert comparison.kinds[0].a.wire_bytes == PerStep(32, 2)


def test_an_operator_counts_without_those_that_it_calls(tmp_path: Path) -> None:
    trace = Trace(distributed_info(0, [0, 1])).step(1, 0, 1000)
    trace.event("aten::linear", 100, 200).event("aten::addmm", 110, 180).event("aten::copy_", 120, 140)
    trace.event("aten::copy_", 300, 310).event("aten::mm", 100, 150, tid=2)
    trace.event("autograd::engine::evaluate_function: AddmmBackward0", 90, 400)
    trace.call("allreduce_", 500, [[4]]).transfer("all_reduce", 510, 600, 4, tid=COMM)
    trace.event("aten::late", 1100, 1200)
    recorded = load([trace.write(tmp_path / "a.json")])
    work = work_of(recorded, analyse(recorded))
    assert work.time_ns == {"aten::linear": 30, "aten::addmm": 50, "aten::copy_": 30, "aten::mm": 50}
    assert work.calls["aten::copy_"] == 2
    assert work.collectives == {("all_reduce", 16): 1}


def test_work_of_several_runs_adds_up() -> None:
    whole = Work()
    whole.add(Work(wire_bytes={("p2p", 4): 8, ("p2p", 8): -1}))
    whole.add(Work(wire_bytes={("p2p", 4): 8, ("p2p", 8): 8}))
    assert whole.wire_bytes == {("p2p", 4): 16, ("p2p", 8): -1}


def test_a_saved_report_is_compared_as_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = gpu_trace(kernels=2, copy=True).write(tmp_path / "a.json")
    assert cli.main(["report", str(trace), "--format", "json"]) == 0
    saved = tmp_path / "saved.json"
    saved.write_text(capsys.readouterr().out)
    whole, kept = compared(trace, trace), compared(saved, saved)
    assert (kept.calls, kept.kernels) == (None, None)
    assert (kept.a, kept.waterfall) == (whole.a, whole.waterfall)
    assert [row.a.payload_bytes for row in kept.kinds] == [row.a.payload_bytes for row in whole.kinds]
    saved.write_text(saved.read_text()[:-20])
    with pytest.raises(ShardprofError, match="damaged report"):
        measured([saved])


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def of_command(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main(["compare", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return of_command


def test_groups_are_named_with_an_option(call: Call, tmp_path: Path) -> None:
    a, b = (gpu_trace(kernels=n, copy=False).write(tmp_path / f"{n}.json") for n in (1, 2))
    code, out, _ = call(a, a, "--with", b, b, b, "--format", "json")
    told = json.loads(out)
    assert (code, told["schema"]) == (0, "shardprof.comparison/1")
    assert (len(told["a"]["paths"]), len(told["b"]["paths"])) == (2, 3)
    assert (told["a"]["rank_steps"], told["b"]["rank_steps"]) == (4, 6)
    for wrong in ([a], [a, b, b], [], ["--with", b]):
        code, out, err = call(*wrong)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "compare A B" in err
    code, out, err = call(a, tmp_path / "missing")
    assert (code, out) == (2, "")
    assert "does not exist" in err


def test_names_from_traces_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    hostile = "void \x1b[31m[bold]evil|<b>(int)\u202e"
    a, b = gpu_trace(kernels=1, copy=False), gpu_trace(kernels=1, copy=False)
    b.kernel(hostile, 100, 900)
    comparison = compared(a.write(tmp_path / "a.json"), b.write(tmp_path / "b\x1b[2J.json"))
    for how in ("terminal", "markdown"):
        written = rendered(comparison, how)
        assert "\x1b" not in written
        assert "\u202e" not in written
        assert "\\x1b" in written.replace("\\\\", "\\")
    assert "\\<b\\>" in rendered(comparison, "markdown")


def test_a_kernel_is_named_without_its_parameters() -> None:
    names = [
        "void at::native::(anonymous namespace)::fill<float, (int)4>(at::Tensor, int)",
        "Memcpy HtoD (Pageable -> Device)",
        "void (",
        "void at::native::elementwise_kernel",
        "void fill<at::(anonymous namespace)::Functor>",
        "f" * 100,
    ]
    assert shown_kernels(names) == {
        "at::native::(anonymous namespace)::fill<float, (int)4>",
        "Memcpy HtoD (Pageable -> Device)",
        "(",
        "at::native::elementwise_kernel",
        "fill<at::(anonymous namespace)::Functor>",
        f"{'f' * 40}…{'f' * 16}",
    }


def shown_kernels(names: list[str]) -> set[str]:
    """What the table calls kernels of these names."""
    times = dict.fromkeys(names, 1000)
    a = run(10, work=Work())
    b = run(10, work=Work(calls=Counter(times), time_ns=Counter(times)))
    table = next(table for table in compare_view(compare([a], [b])).tables if table.columns[-1] == "kernel")
    return {row[-1] for row in table.rows}


def test_kernels_of_one_table_are_told_apart() -> None:
    applied = "void at::native::vectorized_elementwise_kernel<4, at::native::{}, std::array<char*, 3ul> >(int, {}, T)"
    added, multiplied = (applied.format(f"{name}<float>", "U") for name in ("CUDAFunctor_add", "MulFunctor"))
    ends = "at::native::vectorized_elementwise_kerne", "ay<char*, 3ul> >"
    assert shown_kernels([added, multiplied, "gemm"]) == {
        f"{ends[0]}…CUDAFunctor_add…{ends[1]}",
        f"{ends[0]}…MulFunctor…{ends[1]}",
        "gemm",
    }
    assert shown_kernels(["void fill(int)", "void fill(float)"]) == {"void fill(int)", "void fill(float)"}
    far = [f"{'f' * 40}<{x}, {'g' * 9}, {y}, {'h' * 20}>" for x in "ab" for y in "cd"]
    overloads = [applied.format("MulFunctor<float>", kind) for kind in ("U", "V")]
    longer = ["k" * 100, "k" * 101]
    assert len(shown_kernels([*far, *overloads, *longer])) == 8


def runs_to_show() -> list[tuple[Path, Path]]:
    checkout = REPOSITORY / "traces"
    pairs = [(checkout / "fsdp2-vit-2ranks", checkout / "zero3-vit-2ranks")]
    return [*pairs, *([(BEFORE, AFTER)] if BEFORE.exists() else [])]


@pytest.mark.parametrize("pair", runs_to_show(), ids=lambda pair: pair[1].name)
def test_no_line_is_longer_than_the_terminal_is_wide(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(*pair)
    commands = {command for command, _ in compare_view(comparison).next_commands}
    for width in (60, 80, 100, 120, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = rendered(comparison).splitlines()
        assert [line for line in lines if cell_len(line) > width and not line.strip().startswith(tuple(commands))] == []
        assert lines == [line.rstrip() for line in lines]
    monkeypatch.setenv("COLUMNS", "80")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    _compare_terminal.render(comparison, out)


@pytest.mark.parametrize("width", [60, 80, 81, 100, 160])
@pytest.mark.parametrize("rest_ms", [0.03, -0.001])
def test_a_bar_at_the_right_end_stays_on_its_line(width: int, rest_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = step(10, compute=9.55, idle=0.1), step(10, compute=9.55, data_loading=2, idle=0.1 + rest_ms)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = rendered(compare([of(result(rank(0, a)))], [of(result(rank(0, b)))])).splitlines()
    (rest,) = (line for line in lines if line.startswith("  the rest"))
    assert len(rest) == width
    assert rest[-1] in "▒╌"


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_recorded_runs_compare_as_reviewed(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = golden.stem.split(".")
    monkeypatch.chdir(REPOSITORY / "traces")
    monkeypatch.setenv("COLUMNS", "80")
    assert rendered(compared(Path(a), Path(b))) == golden.read_text()


def test_there_is_a_reviewed_text() -> None:
    assert GOLDEN


@needs_traces
def test_a_job_before_and_after_its_move_to_other_gpus() -> None:
    comparison = compared(BEFORE, AFTER)
    assert subjects(comparison, "not comparable") == ["GPU", "ranks"]
    exact = json.loads((TRACES / "golden.json").read_text())
    sums = [exact[f"before-after/{file.name}"]["exact"]["steps"] for file in (BEFORE, AFTER)]
    means = [
        tuple(round(sum(s[key] for s in steps) / len(steps)) for steps in sums) for key in ("wall_ns", "compute_ns")
    ]
    assert (comparison.a.mean_ns, comparison.b.mean_ns) == means[0]
    assert sum(part.change_ns for part in comparison.waterfall) == means[0][1] - means[0][0]
    compute = comparison.waterfall[0]
    assert compute.name == "compute"
    assert (compute.a_ns, compute.b_ns) == pytest.approx(means[1], abs=1)
    assert comparison.kernels is not None
    first = comparison.kernels[0]
    assert (first.name, first.a_calls.per_step) == ("Memcpy DtoD (Device -> Device)", 3)
    assert first.b_calls.per_step == pytest.approx(774.17, abs=0.01)
    assert {"volta_sgemm_128x32_nt"} <= {row.name for row in comparison.kernels if not row.a_calls.total}
