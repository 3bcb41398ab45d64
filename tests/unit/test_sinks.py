"""The steps of a run on their way to a sink: each once, with what its node's counters say, live or not."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polars")
pytest.importorskip("tensorboard")
import polars as pl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import shardprof
from shardprof import cli, sinks
from shardprof.errors import ShardprofError
from shardprof.extras import require
from shardprof.sinks import Request, tensorboard
from shardprof.sinks._feed import Feed
from shardprof.sinks._following import MOST_KEPT_NS, PATIENCE_S, Follower, StepRow
from shardprof.trace.live import rank_records
from shardprof.trace.place import ENDED, PLACE_FILE, Place, PlaceWriter
from shardprof.trace.schema import (
    COUNTERS_FILE,
    HOST_FILE,
    RANK_FILE,
    STEPS_FILE,
    CounterRecord,
    Device,
    HostRecord,
    RankRecord,
    RunFolder,
    StepRecord,
    read_steps,
    to_json,
    write_whole,
)

FSDP2 = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks"
SECOND_NS = 1_000_000_000
START_NS = time.time_ns() + 3600 * SECOND_NS
"""Of hand-made runs, so far ahead that no step has waited for too long."""


class Made:
    """A run folder that grows."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self.folder.host("node-a").mkdir(parents=True)
        gpu = Device(subject="gpu 3", name="a GPU", uuid="GPU-1")
        host = HostRecord(name="node-a", identity="x", launcher_pid=1, cpu_count=1, memory_bytes=1, devices=(gpu,))
        write_whole(self.folder.host("node-a") / HOST_FILE, host)
        self.follower = Follower(self.folder, lambda: rank_records(self.folder))

    def rank(self, rank: int = 0, *, started_ns: int = START_NS, **settings: int) -> None:
        self.folder.rank(rank).mkdir(parents=True, exist_ok=True)
        record = RankRecord(
            rank=rank, world_size=2, local_rank=rank, host="node-a", pid=1, device="cuda", device_uuid="GPU-1",
            started_ns=started_ns, versions={}, settings=dict(settings),
        )  # fmt: skip
        write_whole(self.folder.rank(rank) / RANK_FILE, record)

    def step(self, number: int, begin_s: float, end_s: float, rank: int = 0, **known: Any) -> None:
        record = StepRecord(
            step=number, begin_ns=START_NS + int(begin_s * SECOND_NS), end_ns=START_NS + int(end_s * SECOND_NS), **known
        )
        with (self.folder.rank(rank) / STEPS_FILE).open("a") as file:
            file.write(to_json(record) + "\n")

    def sample(self, at_s: float, source: str = "nvml", **values: dict[str, float]) -> None:
        of_subjects = {subject.replace("_", " "): told for subject, told in values.items()}
        record = CounterRecord(time_ns=START_NS + int(at_s * SECOND_NS), source=source, values=of_subjects)
        with (self.folder.host("node-a") / COUNTERS_FILE).open("a") as file:
            file.write(to_json(record) + "\n")

    def rows(self, *, final: bool = False) -> dict[int, list[StepRow]]:
        return dict(self.follower.rows(final=final))

    def steps(self, *, final: bool = False) -> list[int]:
        return [row.step for row in self.rows(final=final).get(0, [])]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "run")


def test_a_row_says_what_was_recorded_and_counted(made: Made) -> None:
    made.rank(micro_batch_size=4, gradient_accumulation_steps=2)
    made.sample(0, gpu_3={"power_w": 100, "energy_j": 50}, rank_0={"rss_bytes": 10}, gpu_0={"power_w": 7})
    made.sample(4, gpu_3={"power_w": 300, "energy_j": 850}, rank_0={"rss_bytes": 10})
    memory = {"allocated_bytes": 7}
    made.step(5, 1, 3, forward_ns=SECOND_NS // 2, hook_ns=1000, captured=True, cuda_memory=memory)
    (row,) = made.rows()[0]
    assert (row.step, row.end_ns) == (5, START_NS + 3 * SECOND_NS)
    assert row.values == {
        "step/seconds": 2.0, "step/forward_seconds": 0.5, "step/recording_seconds": 1e-6, "step/captured": 1.0,
        "step/samples_per_second": 4.0, "memory/allocated_bytes": 7.0, "process/rss_bytes": 10.0,
        "gpu/power_w": 200.0, "gpu/energy_j": 400.0,
    }  # fmt: skip


def test_a_step_waits_for_every_source_of_counters(made: Made) -> None:
    made.rank()
    made.sample(0, gpu_3={"power_w": 100})
    made.sample(0, "host", rank_0={"rss_bytes": 10})
    made.step(0, 1, 2)
    assert made.steps() == []
    made.sample(5, gpu_3={"power_w": 100})
    assert made.steps() == []
    made.sample(3, "host", rank_0={"rss_bytes": 10})
    assert made.steps() == [0]
    assert made.steps() == []
    made.step(1, 2, 4)
    assert made.steps() == []
    (row,) = made.rows(final=True)[0]
    assert row.values["gpu/power_w"] == 100
    assert "process/rss_bytes" not in row.values


def test_a_step_does_not_wait_for_counters_that_never_come(made: Made) -> None:
    made.rank()
    ago_s = (time.time_ns() - START_NS) / SECOND_NS - PATIENCE_S
    made.sample(ago_s - 2, gpu_3={"power_w": 100})
    made.step(0, ago_s - 2, ago_s - 1)
    made.step(1, ago_s - 1, ago_s + 3600)
    assert made.steps() == [0]


def test_parts_of_a_step_are_no_rows_and_what_was_told_stays(made: Made) -> None:
    made.rank()
    for number in (0, 1):
        made.step(number, number, number + 1)
    made.step(0, 0, 2)
    assert made.steps() == []
    made.sample(2)
    (row,) = made.rows()[0]
    assert (row.step, row.values["step/seconds"]) == (0, 2.0)
    made.step(0, 0, 3)
    made.step(1, 3, 4)
    assert made.steps(final=True) == [1]


def test_an_attempt_begins_anew(made: Made) -> None:
    made.rank()
    made.step(0, 0, 1)
    made.step(1, 1, 2)
    assert made.steps(final=True) == [0, 1]
    (made.folder.rank(0) / STEPS_FILE).unlink()
    made.rank(started_ns=START_NS + 1)
    made.step(0, 5, 6)
    assert made.steps(final=True) == [0]


def test_ranks_are_read_one_after_the_other(made: Made) -> None:
    for rank in (0, 1):
        made.rank(rank)
        made.step(0, 0, 1, rank)
    rows = made.follower.rows(final=True)
    assert next(rows)[0] == 0
    made.step(1, 1, 2, 1)
    assert [(rank, [row.step for row in of_rank]) for rank, of_rank in rows] == [(1, [0, 1])]


def test_a_rank_that_hangs_or_has_ended_holds_no_samples(made: Made) -> None:
    made.rank(0)
    made.rank(1)
    kept_s = MOST_KEPT_NS // SECOND_NS

    def kept() -> list[int]:
        assert made.rows() == {}
        return [(sample.time_ns - START_NS) // SECOND_NS for sample in made.follower._nodes["node-a"]._samples]

    made.sample(0, gpu_3={"power_w": 1})
    made.sample(kept_s, gpu_3={"power_w": 1})
    assert kept() == [0, kept_s]
    made.sample(kept_s + 100, gpu_3={"power_w": 1})
    assert kept() == [kept_s, kept_s + 100], "both ranks hang"
    for rank in (0, 1):
        place = Place(step=3, phase=ENDED, since_ns=START_NS, capture="far")
        PlaceWriter(made.folder.rank(rank) / PLACE_FILE).put(place)
    assert kept() == [kept_s + 100]


def test_the_last_steps_of_a_rank_that_has_ended_get_their_counters(made: Made) -> None:
    made.rank()
    PlaceWriter(made.folder.rank(0) / PLACE_FILE).put(Place(step=1, phase=ENDED, since_ns=START_NS, capture="far"))
    made.step(0, 1, 2)
    made.sample(0, gpu_3={"power_w": 100})
    made.sample(1.5, gpu_3={"power_w": 100})
    assert made.steps() == []
    made.sample(100, gpu_3={"power_w": 100})
    (row,) = made.rows()[0]
    assert row.values["gpu/power_w"] == 100


def test_lines_of_another_kind_are_left_out(made: Made) -> None:
    made.rank()
    (made.folder.rank(0) / STEPS_FILE).write_text('{"step": "x"}\n[]\nnot json\n')
    (made.folder.host("node-a") / COUNTERS_FILE).write_text('{"time_ns": 1}\n' + "[" * 100_000 + "\n")
    made.step(3, 0, 1)
    assert made.steps(final=True) == [3]


def events(folder: Path, rank: int) -> EventAccumulator:
    read = EventAccumulator(str(folder / f"rank-{rank}"), size_guidance={"scalars": 0})
    read.Reload()
    return read


def test_tensorboard_has_the_steps_of_a_recorded_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FSDP2, tmp_path / "run")
    for _ in range(2):  # the second takes the place of the first
        assert cli.main(["export", str(tmp_path / "run"), "--sink", "tensorboard"]) == 0
    folder = tmp_path / "run" / "tensorboard"
    said = capsys.readouterr().out
    assert said == f"steps can be seen at: tensorboard --logdir {folder}\nsent 14 steps of ranks\n" * 2
    recorded = shardprof.load(FSDP2).recorded_steps()
    for rank in (0, 1):
        read, steps = events(folder, rank), read_steps(FSDP2 / "ranks" / f"{rank:05d}" / STEPS_FILE)
        for name, values in {
            "step/seconds": [(step.end_ns - step.begin_ns) / 1e9 for step in steps],
            "step/forward_seconds": [step.forward_ns / 1e9 for step in steps if step.forward_ns],
            "step/captured": [float(step.captured) for step in steps],
        }.items():
            scalars = read.Scalars(name)
            assert [scalar.value for scalar in scalars] == pytest.approx(values)
            assert [scalar.step for scalar in scalars] == [step.step for step in steps]
            assert [scalar.wall_time for scalar in scalars] == [step.end_ns / 1e9 for step in steps]
        counted = recorded.filter(pl.col("rank") == rank).select(pl.col("step"), pl.col("^counter_.*$"))
        for name in counted.columns[1:]:
            known = counted.filter(pl.col(name).is_not_null())
            scalars = read.Scalars(name.replace("counter_", "process/")) if len(known) else []
            assert [scalar.step for scalar in scalars] == known["step"].to_list()
            assert [scalar.value for scalar in scalars] == pytest.approx(known[name].to_list())


def test_who_writes_a_folder_of_tensorboards_anew_has_it_alone(tmp_path: Path) -> None:
    rows = [StepRow(step=step, end_ns=START_NS, values={"step/seconds": float(step)}) for step in range(4)]
    live, later = (tensorboard.open_sink(RunFolder(tmp_path), None) for _ in range(2))
    live.put(0, rows[:2])
    live.put(1, rows[:1])
    later.put(0, rows[:3])
    with pytest.raises(OSError, match="another shardprof writes it now"):
        live.put(0, rows[2:])
    live.put(1, rows[1:])
    later.put(0, rows[3:])
    for rank in (0, 1):
        scalars = events(tmp_path / "tensorboard", rank).Scalars("step/seconds")
        assert [scalar.step for scalar in scalars] == [0, 1, 2, 3]


@pytest.mark.parametrize(("inside", "path"), [(".", "."), ("ranks", "..")])
def test_a_run_that_is_named_by_where_one_is_has_its_name(
    inside: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FSDP2, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run" / inside)
    assert cli.main(["export", path, "--sink", f"tensorboard={tmp_path / 'logs'}"]) == 0
    assert [folder.name for folder in (tmp_path / "logs").iterdir()] == ["run"]


def test_a_terminal_obeys_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run\x1b[31m"
    shutil.copytree(FSDP2, run)
    assert cli.main(["export", str(run), "--sink", "tensorboard"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "run\\x1b[31m/tensorboard" in said


def test_a_folder_of_its_own_holds_runs_by_name(tmp_path: Path) -> None:
    assert cli.main(["export", str(FSDP2), "--sink", f"tensorboard={tmp_path / 'logs'}"]) == 0
    assert len(events(tmp_path / "logs" / FSDP2.name, 1).Scalars("step/seconds")) == 7
    assert not (FSDP2 / "tensorboard").exists()


def test_a_sink_that_fails_is_told_of_once_and_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said, failed = list[str](), list[str]()
    requests = [Request("tensorboard", str(tmp_path / "file")), Request("tensorboard", str(tmp_path / "logs"))]
    run = RunFolder(FSDP2)
    feed = Feed(run, requests, lambda: rank_records(run), said.append, failed.append)
    assert feed.send(final=True) == 14
    feed.close()
    assert len(said) == 1
    (failure,) = failed
    assert failure.startswith("tensorboard cannot be written to: ")
    assert len(events(tmp_path / "logs" / FSDP2.name, 0).Scalars("step/seconds")) == 7


def test_a_sink_that_breaks_later_gets_no_more(made: Made, tmp_path: Path) -> None:
    failed: list[str] = []
    ranks = lambda: rank_records(made.folder)  # noqa: E731
    feed = Feed(made.folder, [Request("tensorboard", str(tmp_path))], ranks, lambda _: None, failed.append)
    made.rank()
    for number in range(4):
        made.step(number, number, number + 1)
        feed.send(final=True)
        if number == 1:
            shutil.rmtree(tmp_path / "run" / "rank-0")
    assert len(failed) == 1
    assert failed[0].startswith("tensorboard gets no more steps: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sink", "nowhere"], "there is no sink nowhere; there are tensorboard and wandb"),
        (["--sink", "_feed"], "there is no sink _feed; there are tensorboard and wandb"),
        ([], "there is nowhere to send steps to"),
    ],
)
def test_what_cannot_be_asked_for_is_said(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(FSDP2), *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_missing_package_is_said_before_the_job_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").mkdir()  # which W&B itself makes where it is used
    monkeypatch.setattr("sys.path", [str(Path(sinks.__file__).parents[2]), str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    with pytest.raises(ShardprofError, match=r"wandb is not installed; pip install 'shardprof\[wandb\]'"):
        require("wandb", extra="wandb")
    out = tmp_path / "run"
    assert cli.main(["record", "--out", str(out), "--sink", "wandb", "--", "touch", str(tmp_path / "ran")]) == 2
    assert "pip install 'shardprof[wandb]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wandb"]


def test_a_run_of_other_tools_has_no_steps_to_send(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": []}))
    assert cli.main(["export", str(tmp_path), "--sink", "tensorboard"]) == 2
    assert "is no run folder" in capsys.readouterr().err
