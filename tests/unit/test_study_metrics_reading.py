"""What is read of a training: recorded runs that are in this repository, damaged ones, none at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shardprof.analysis.report import analyse
from shardprof.study.bench.cells import Cell
from shardprof.study.bench.study_file import Length
from shardprof.study.metrics import METRICS, measure
from shardprof.study.metrics.device_text import device_work
from shardprof.study.metrics.evidence import step_times
from shardprof.study.metrics.learning import read_learning
from shardprof.study.results import Accuracy, Measurement
from shardprof.trace.run import RankTraces, load
from shardprof.trace.schema import RunFolder, StepRecord, read_steps, to_json
from shardprof.trace.undisturbed import undisturbed

TRACES = Path(__file__).parents[2] / "traces"
FSDP2 = Cell(
    strategy="fsdp2-full", knobs="as shipped", precision="fp32", checkpointing=False, batch_size=16, accumulation=1,
    model="vit_small", ranks=2, nodes=1,
)  # fmt: skip
CELLS = {"fsdp2-vit-2ranks": FSDP2, "zero3-vit-2ranks": replace(FSDP2, strategy="zero3")}
LENGTH = Length(name="recorded", steps=7, warm_up=3, captured=3)
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES", TRACES.parent.parent / "shared" / "traces"))
ON_GPU = PUBLIC / "dataloader-bound" / "workers0.json.gz"
needs_traces = pytest.mark.skipif(not ON_GPU.exists(), reason=f"the public traces are not in {PUBLIC}")
MS = 1_000_000
PARAMETERS, OF_ROOT = 4 * 821_642, 4 * 28_554
"""Bytes of the recorded model; see the traces' README.md."""


def figures(measured: Measurement) -> dict[tuple[str, str], float | None]:
    return {(figure.name, figure.part): figure.value for figure in measured.figures}


def recorded(folder: Path, name: str) -> Path:
    """The folder of a trial whose run is one of this repository."""
    shutil.copytree(TRACES / name, folder / "run")
    return folder


@pytest.fixture(scope="module", params=sorted(CELLS))
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return measure(recorded(tmp_path_factory.mktemp("real"), request.param), CELLS[request.param], LENGTH)


def test_figures_are_those_of_the_report(real: Measurement) -> None:
    told = figures(real)
    report = real.report
    assert report is not None
    assert report.summary is not None
    steps, volumes = report.summary.steps, report.volumes
    assert steps is not None
    assert volumes is not None
    exposed_ns = steps.groups_ns["communication"]
    assert told["exposed_comm", ""] == pytest.approx(exposed_ns / steps.count / MS)
    assert told["comm_only", "percent"] == pytest.approx(100 * steps.share("communication"))
    assert told["overlap_ratio", ""] == pytest.approx(100 * steps.overlapped_share)
    assert told["wire_bytes", ""] == pytest.approx(volumes.total.measured_bytes, abs=1)
    assert told["volume_ratio", "per_expected"] == pytest.approx(1, abs=0.01)
    for row in report.collectives:
        assert told["busbw", row.kind] == pytest.approx(row.busbw_gbps)
        assert told["algbw", row.kind] == pytest.approx(row.algbw_gbps)
    for kind in volumes.kinds:
        assert told["wire_bytes", kind.kind] == pytest.approx(kind.measured_bytes, abs=1)


def test_the_four_parts_are_the_mean_captured_step(real: Measurement) -> None:
    told = figures(real)
    report = real.report
    assert report is not None
    walls_ms = [step.wall_ns / MS for rank in report.ranks for step in rank.steps]
    parts = ("compute_only", "comm_only", "overlap", "idle")
    assert sum(told[part, ""] or 0 for part in parts) == pytest.approx(sum(walls_ms) / len(walls_ms))
    assert sum(told[part, "percent"] or 0 for part in parts) == pytest.approx(100)


def test_payload_is_what_the_strategy_moves(tmp_path: Path) -> None:
    told = figures(measure(recorded(tmp_path, "fsdp2-vit-2ranks"), FSDP2, LENGTH))
    assert told["comm_bytes_by_op", "all_gather"] == pytest.approx(2 * PARAMETERS - OF_ROOT, rel=0.003)
    assert told["comm_bytes_by_op", "reduce_scatter"] == pytest.approx(PARAMETERS, rel=0.003)


def test_a_run_without_a_step_that_counts_tells_the_rest(real: Measurement) -> None:
    """Of seven steps three warm up, three are captured, and the last begins with exporting them."""
    told = {figure.name: figure for figure in real.figures}
    assert not any(step.counts for step in real.steps)
    assert told["step_time"].missing == "no step was undisturbed after the warm-up"
    assert told["cpu_rss"].value is not None


def test_on_cpus_what_only_gpus_have_is_missing(real: Measurement) -> None:
    why = {figure.name: figure.missing for figure in real.figures}
    assert {"gpu_busy", "power", "h2d_bw", "launch_gap", "gpu_mem_nvml", "ooms"} <= {
        name for name, reason in why.items() if reason == "no GPU"
    }


def test_an_empty_folder_has_every_metric_and_none_of_them(tmp_path: Path) -> None:
    measured = measure(tmp_path, FSDP2, LENGTH)
    assert [figure.name for figure in measured.figures] == [metric.name for metric in METRICS]
    assert all(figure.value is None and figure.missing for figure in measured.figures)
    assert measured.report is None
    assert (measured.steps, measured.losses, measured.accuracies, measured.workload) == ((), (), (), {})


def test_the_trace_of_one_rank_tells_bytes_and_no_waits(tmp_path: Path) -> None:
    shutil.rmtree(recorded(tmp_path, "fsdp2-vit-2ranks") / "run" / "ranks" / "00001")
    measured = measure(tmp_path, FSDP2, LENGTH)
    why = {figure.name: figure.missing for figure in measured.figures}
    assert why["collective_wait"] == why["straggler_score"] == "no other rank's trace tells when ranks arrived"
    assert figures(measured)["wire_bytes", ""] == pytest.approx(6.53e6, rel=0.01)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@needs_traces
def test_the_text_of_a_real_trace_tells_copies_and_occupancy() -> None:
    """Each step copies 32 images of 3 x 224 x 224 floats and their labels, from memory that is not pinned."""
    report = analyse(load([ON_GPU]))
    steps = [step for rank in report.ranks for step in rank.steps]
    done = device_work([ON_GPU], [(step.begin_ns, step.begin_ns + step.wall_ns) for step in steps])
    assert len(steps) == 6
    assert sum(copy.size_bytes or 0 for copy in done.copies) == 6 * 32 * (3 * 224 * 224 * 4 + 8)
    assert not any(copy.is_pinned for copy in done.copies)
    kernels = [work for work in done.work if not work.is_copy]
    in_steps_ns = sum(step.compute_ns + step.comm_ns for step in steps)
    assert sum(work.duration_ns for work in kernels) == pytest.approx(in_steps_ns, rel=0.01)
    assert all(0 <= (work.occupancy or 0) <= 1 for work in kernels)


Damage = Callable[[Path], object]
DAMAGES: Mapping[str, Damage] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "another type": lambda path: path.write_text("[1, 2]\n"),
    "other values": lambda path: path.write_text(
        '{"step": "x", "time_ns": [], "source": 1, "values": {"rank 0": 1}}\n'
    ),
    "texts for numbers": lambda path: path.write_text(
        '{"time_ns": 1, "source": "host", "values": {"rank 0": {"rss_bytes": "x"}, "eth0": {"rx_bytes": null}}}\n'
    ),
    "a folder": into_folder,
}
FILES = (
    "run.json", "hosts/node-a/host.json", "hosts/node-a/counters.jsonl", "ranks/00000/rank.json",
    "ranks/00000/steps.jsonl", "ranks/00000/trace.json.gz", "ranks/00001/trace.json.gz",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_what_is_damaged_is_missing_and_nothing_fails(tmp_path: Path, file: str, damage: str) -> None:
    DAMAGES[damage](recorded(tmp_path, "fsdp2-vit-2ranks") / "run" / file)
    assert_whole(measure(tmp_path, FSDP2, LENGTH))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["loss.0.jsonl", "accuracy.jsonl", "workload.json"])
def test_a_damaged_log_is_missing_and_nothing_fails(tmp_path: Path, file: str, damage: str) -> None:
    logs(tmp_path / "training", {0: {1: 2.0}, 1: {1: 4.0}})
    DAMAGES[damage](tmp_path / "training" / file)
    assert_whole(measure(tmp_path, FSDP2, LENGTH))


def assert_whole(measured: Measurement) -> None:
    assert {figure.name for figure in measured.figures} == {metric.name for metric in METRICS}
    assert all((figure.value is None) == bool(figure.missing) for figure in measured.figures)


def logs(folder: Path, losses: Mapping[int, Mapping[int, float]], **more: Any) -> None:
    """The logs of ranks that tell a loss by step."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, by_step in losses.items():
        lines = [
            json.dumps({"step": step, "samples": 8 * step, "loss": loss, "at_ns": step, **more}) + "\n"
            for step, loss in by_step.items()
        ]
        (folder / f"loss.{rank}.jsonl").write_text("".join(lines))
    (folder / "accuracy.jsonl").write_text('{"step": 1, "samples": 8, "accuracy": 0.5, "at_ns": 9}\n')
    (folder / "workload.json").write_text('{"parameters": 7}')


def test_losses_are_means_of_the_steps_that_all_ranks_have(tmp_path: Path) -> None:
    logs(tmp_path, {0: {1: 2.0, 2: 3.0, 3: 9.0}, 1: {1: 4.0, 2: 6.0}})
    assert [(loss.step, loss.samples, loss.loss) for loss in read_learning(tmp_path, 2).losses] == [
        (1, 8, 3.0),
        (2, 16, 4.5),
    ]


def test_without_a_rank_no_loss_is_the_jobs(tmp_path: Path) -> None:
    logs(tmp_path, {0: {1: 2.0}})
    assert read_learning(tmp_path, 1).losses[0].loss == 2.0
    assert read_learning(tmp_path, 2).losses == ()


def test_of_a_training_that_was_started_again_the_last_line_holds(tmp_path: Path) -> None:
    logs(tmp_path, {0: {1: 2.0, 2: 3.0}})
    with (tmp_path / "loss.0.jsonl").open("a") as file:
        file.write('{"step": 1, "samples": 8, "loss": 5.0, "at_ns": 9}\n{"step": 2, "samp')
    assert [loss.loss for loss in read_learning(tmp_path, 1).losses] == [5.0, 3.0]


def test_a_log_that_tells_no_update_leaves_it_unknown(tmp_path: Path) -> None:
    logs(tmp_path / "training", {0: {1: 2.0}, 1: {1: 2.0}})
    why = {figure.name: figure.missing for figure in measure(tmp_path, FSDP2, LENGTH).figures}
    assert why["lr"] == "the learning rate is not told"
    assert why["skipped_steps"] == "it is not told which steps were skipped"
    assert why["grad_norm"] == "nothing computed the norm of the gradients"
    assert why["loss"] == why["accuracy"] == ""


def test_a_loss_that_diverged_is_a_loss_and_no_figure(tmp_path: Path) -> None:
    logs(tmp_path / "training", {0: {1: 2.0, 2: float("nan")}, 1: {1: 2.0, 2: 3.0}})
    measured = measure(tmp_path, FSDP2, LENGTH)
    assert len(measured.losses) == 2
    assert {f.missing for f in measured.figures if f.name == "loss"} == {"it is no finite number"}


def rank(*records: StepRecord, number: int = 0) -> RankTraces:
    return RankTraces(rank=number, host=None, record=None, steps=records, traces=())


def records(count: int, wall_ms: int = 10, profiled: tuple[int, ...] = (), hook_ms: int = 0) -> list[StepRecord]:
    return [
        StepRecord(
            step=step, begin_ns=step * wall_ms * MS, end_ns=(step + 1) * wall_ms * MS, profiling=step in profiled,
            hook_ns=hook_ms * MS,
        )
        for step in range(count)
    ]  # fmt: skip


def test_the_profiler_disturbs_its_steps_and_the_next() -> None:
    assert [record.step for record in undisturbed(records(10, profiled=(4, 5)))] == [2, 3, 7, 8, 9]
    assert undisturbed([]) == []


def test_a_step_counts_where_no_rank_was_disturbed() -> None:
    ranks = [rank(*records(8)), rank(*records(8, profiled=(4,)), number=1)]
    assert [step.step for step in step_times(ranks, (), 3) if step.counts] == [3, 6, 7]


def test_a_steps_time_is_the_median_of_the_ranks_less_what_recording_took() -> None:
    ranks = [rank(*records(3, wall_ms)) for wall_ms in (10, 20, 60)] + [rank(*records(2, 30, hook_ms=1))]
    assert [step.wall_ns / MS for step in step_times(ranks, (), 0)] == [24.5, 24.5, 20]


@given(some.integers(0, 99))
def test_the_step_in_which_an_evaluation_ended_does_not_count(at_ms: int) -> None:
    told = Accuracy(step=1, samples=1, at_ns=at_ms * MS, accuracy=0.5)
    counting = [step.step for step in step_times([rank(*records(10))], [told], 2) if step.counts]
    assert counting == [step for step in range(2, 10) if step != at_ms // 10]


def test_an_evaluation_after_the_last_step_disturbs_none() -> None:
    told = Accuracy(step=10, samples=1, at_ns=100 * MS, accuracy=0.5)
    assert sum(step.counts for step in step_times([rank(*records(10))], [told], 2)) == 8


def test_steps_that_count_are_measured_beside_captured_ones(tmp_path: Path) -> None:
    """Steps that the recorded run might have had after those that it has: 100, 120 and 140 ms."""
    folder = RunFolder(recorded(tmp_path, "fsdp2-vit-2ranks") / "run")
    for number in range(2):
        path = folder.rank(number) / "steps.jsonl"
        last = read_steps(path)[-1]
        with path.open("a") as file:
            for more, wall_ms in enumerate((100, 120, 140), 1):
                begin_ns = last.end_ns + more * 1_000 * MS
                end_ns = begin_ns + wall_ms * MS
                step = replace(last, step=last.step + more, begin_ns=begin_ns, end_ns=end_ns, hook_ns=0)
                file.write(to_json(step) + "\n")
    told = figures(measure(tmp_path, FSDP2, LENGTH))
    assert told["step_time", "p50"] == 120
    assert told["step_time", "p95"] == pytest.approx(138)
    assert told["throughput", "samples_per_s"] == pytest.approx(32 / 0.12)
