"""Real jobs whose steps are sent to sinks: what arrives is what was recorded, and a sink that fails costs a note."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("wandb")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from shardprof.trace.schema import HOST_FILE, STEPS_FILE, HostRecord, read_steps, read_whole
from tests.integration.jobs import DDP

pytestmark = pytest.mark.integration

FSDP2 = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks"
SECRET = "planted-f3a9c2"
OFFLINE = {"WANDB_MODE": "offline", "WANDB_API_KEY": SECRET, "A_TOKEN": SECRET}
BLOCK, HEADER = 32768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4
Scalars = dict[str, list[tuple[int, float, float]]]


def scalars(folder: Path, rank: int) -> Scalars:
    """What TensorBoard shows of a rank: steps, times and values."""
    read = EventAccumulator(str(folder / f"rank-{rank}"), size_guidance={"scalars": 0})
    read.Reload()
    return {name: [(s.step, s.wall_time, s.value) for s in read.Scalars(name)] for name in read.Tags()["scalars"]}


def records(file: Path) -> Iterator[Record]:
    """What W&B keeps until it is sent: records in blocks, in parts where they do not fit into one."""
    data, at, part = file.read_bytes(), HEADER.size, b""
    while at + HEADER.size <= len(data):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = HEADER.unpack_from(data, at)
        part += data[at + HEADER.size : at + HEADER.size + size]
        at += HEADER.size + size
        if kind in (WHOLE, LAST):
            yield Record.FromString(part)
            part = b""


def wandb_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The configuration and the history of the one run in a folder."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    config: dict[str, Any] = {}
    history = []
    for record in records(file):
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("history"):
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return config, history


def as_scalars(history: list[dict[str, float]], rank: int) -> Scalars:
    found: Scalars = defaultdict(list)
    for row in history:
        for name, value in row.items():
            if name.startswith(f"rank {rank}/"):
                found[name.removeprefix(f"rank {rank}/")].append((int(row["step"]), row["_timestamp"], value))
    return found


def export(run: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shardprof", "export", str(run), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, record_job: Callable[..., Any], free_port: Callable[[], str]) -> Any:
    """Two DDP ranks on gloo, their steps sent to both sinks and to one that cannot be written to."""
    cwd = tmp_path_factory.mktemp("sinks")
    (cwd / "train.py").write_text(DDP)
    (cwd / "file").touch()
    command = ("torchrun", "--nproc-per-node", "2", "--master-port", free_port(), "train.py", SECRET)
    sinks = ("tensorboard", "wandb=a-project", f"tensorboard={cwd / 'file'}")
    return record_job(
        cwd, *command, options=tuple(part for sink in sinks for part in ("--sink", sink)), environment=OFFLINE
    )  # fmt: skip


def test_tensorboard_shows_every_step_of_every_rank(sent: Any) -> None:
    assert sent.exit_code == 0, sent.stderr
    for rank in (0, 1):
        shown, steps = scalars(sent.folder.root / "tensorboard", rank), sent.steps(rank)
        assert len(steps) == 10
        assert shown["step/seconds"] == [
            (step.step, step.end_ns / 1e9, pytest.approx((step.end_ns - step.begin_ns) / 1e9)) for step in steps
        ]
        assert [step for step, _, captured in shown["step/captured"] if captured] == [7, 8, 9]


def test_wandb_has_the_same_and_knows_what_trained(sent: Any) -> None:
    config, history = wandb_run(sent.folder.root)
    assert (config["launcher"], config["framework"], config["world_size"]) == ("torchrun", "DDP", 2)
    assert "command" not in config
    for rank in (0, 1):
        shown, kept = scalars(sent.folder.root / "tensorboard", rank), as_scalars(history, rank)
        assert kept.keys() == shown.keys()
        for name, points in kept.items():
            assert [point[:2] for point in points] == [point[:2] for point in shown[name]]
            assert [point[2] for point in points] == pytest.approx([point[2] for point in shown[name]])


def test_what_is_sent_holds_no_secret(sent: Any) -> None:
    files = [path for path in (sent.folder.root / "wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_bug_in_the_feeder_is_a_note_and_no_more(record_job: Callable[..., Any], tmp_path: Path) -> None:
    fault = {"SHARDPROF_FAULT": "Feeder._run"}
    recorded = record_job(tmp_path, "echo", "done", options=("--sink", "tensorboard"), environment=fault)
    assert (recorded.exit_code, recorded.stdout) == (0, b"done\n")
    assert "a fault asked for in Feeder._run" in recorded.stderr


def test_a_sink_that_fails_is_a_note_and_no_more(sent: Any) -> None:
    assert sent.stdout.count(b"\n") == 10
    (host,) = sent.folder.host_folders()
    (note,) = read_whole(HostRecord, host / HOST_FILE).notes
    assert note.startswith("tensorboard cannot be written to: ")
    assert sent.stderr.count(note) >= 1
    assert "wandb:" not in sent.stderr


def test_exporting_afterwards_sends_the_same(
    sent: Any, tmp_path: Path, job_environment: Callable[..., dict[str, str]]
) -> None:
    done = export(sent.folder.root, "--sink", f"tensorboard={tmp_path}", environment=job_environment())
    assert done.returncode == 0, done.stderr
    assert "sent 20 steps of ranks" in done.stdout
    for rank in (0, 1):
        live, after = (scalars(folder, rank) for folder in (sent.folder.root / "tensorboard", tmp_path / "run"))
        assert live.keys() >= {"step/seconds", "step/backward_seconds"}
        assert {name: points for name, points in after.items() if name.startswith("step/")} == {
            name: points for name, points in live.items() if name.startswith("step/")
        }


def test_wandb_without_a_login_is_refused_in_a_line(
    tmp_path: Path, job_environment: Callable[..., dict[str, str]]
) -> None:
    nobody = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": "", "WANDB_DIR": str(tmp_path)}
    run = tmp_path / "run"
    (run / "ranks").mkdir(parents=True)
    for part in ("run.json", "ranks/00000"):
        (run / part).symlink_to(FSDP2 / part)
    done = export(run, "--sink", "wandb", environment=job_environment(nobody))
    assert done.returncode == 2
    assert done.stderr.startswith("shardprof: wandb cannot be written to: ")
    assert done.stderr.count("\n") == 1


def test_a_run_that_goes_on_is_followed(
    tmp_path: Path, record_command: Callable[..., list[str]], job_environment: Callable[..., dict[str, str]]
) -> None:
    """It stops in the middle until its first steps have been sent."""
    waits = "    while step == 6 and not os.path.exists('sent'): time.sleep(0.05)\n    loss.backward()"
    script = DDP.replace("    loss.backward()", waits)
    (tmp_path / "train.py").write_text(script.replace('init_process_group("gloo")', ONE_RANK))
    command = record_command("python", "train.py", out=tmp_path / "run")
    job = subprocess.Popen(command, cwd=tmp_path, env=job_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline().startswith(b"0 ")
    command = [sys.executable, "-m", "shardprof", "export", str(tmp_path / "run"), "--sink", "tensorboard"]
    sending = subprocess.Popen(command, env=job_environment(), stdout=subprocess.PIPE, text=True)
    assert sending.stdout is not None
    try:
        assert sending.stdout.readline().startswith("steps can be seen at: ")
        assert job.poll() is None
    finally:
        (tmp_path / "sent").touch()
    job.communicate(timeout=60)
    assert sending.communicate(timeout=60)[0] == "sent 10 steps of ranks\n"
    assert sending.returncode == 0
    steps = read_steps(tmp_path / "run" / "ranks" / "00000" / STEPS_FILE)
    assert len(steps) == 10
    shown = scalars(tmp_path / "run" / "tensorboard", 0)["step/seconds"]
    assert [step for step, _, _ in shown] == [step.step for step in steps]


ONE_RANK = 'init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)'
