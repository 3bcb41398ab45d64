"""What a study runs, in which order, and what keeps it from running here."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from shardprof.study.bench import plan as plans
from shardprof.study.bench.disk import left_bytes
from shardprof.study.bench.hosts import Hosts
from shardprof.study.bench.plan import Plan, plan
from shardprof.study.bench.runner import StudyFolder, obstacles, pending
from shardprof.study.bench.trial import TrialFolder, commands
from shardprof.study.results import FAILED, FINISHED
from tests.unit.studies import cell, trial

STUDY = """\
[study]
name = "planned"
steps = 30
device = "DEVICE"

[matrix]
strategy = ["ddp", "zero1", "fsdp2-full"]
knobs = ["as shipped", "tuned"]
ranks = [2, 4]
"""


def planned(tmp_path: Path, text: str = STUDY, *, device: str = "cpu", hosts: Hosts | None = None) -> Plan:
    path = tmp_path / "study.toml"
    path.write_text(text.replace("DEVICE", device))
    return plan(path, hosts or Hosts(), None)


def test_each_repeat_is_a_block_of_all_cells_in_an_order_of_its_own(tmp_path: Path) -> None:
    order = planned(tmp_path).order
    blocks = [order[begin : begin + 12] for begin in range(0, 36, 12)]
    assert [one.position for one in order] == list(range(36))
    assert [{one.repeat for one in block} for block in blocks] == [{0}, {1}, {2}]
    cells = [[one.cell for one in block] for block in blocks]
    assert Counter(cells[0]) == Counter(cells[1]) == Counter(cells[2])
    assert cells[0] != cells[1] != cells[2]
    assert len({one.trial_id for one in order}) == 36


def test_the_order_is_the_same_every_time_and_another_with_another_seed(tmp_path: Path) -> None:
    assert planned(tmp_path).order == planned(tmp_path).order
    seeded = planned(tmp_path, STUDY.replace("steps = 30", "steps = 30\nseed = 1"))
    assert [one.cell for one in seeded.order] != [one.cell for one in planned(tmp_path).order]


def test_more_repeats_run_what_was_run_and_then_more(tmp_path: Path) -> None:
    more = planned(tmp_path, STUDY.replace("steps = 30", "steps = 30\nrepeats = 5")).order
    assert [one.trial_id for one in more[:36]] == [one.trial_id for one in planned(tmp_path).order]


def test_a_disk_that_is_too_small_is_an_obstacle_with_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(tmp_path, STUDY.replace("steps = 30", "steps = 30\nrepeats = 2"))
    folder = StudyFolder(root=tmp_path / "not yet" / "there")
    # Two repeats; 6 kinds of cells, each on 2 and on 4 ranks; a rank captures 5 steps of 6 blocks and 32 samples.
    assert left_bytes(made.order) == 2 * 6 * 6 * (5 * (6 * 128 + 32 * 2) + 512) * 2**10
    assert obstacles(made, made.order, folder) == ()
    usage = shutil.disk_usage(tmp_path)._replace(free=2**28)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    (short,) = obstacles(made, made.order, folder)
    assert "study.toml, line 4: " in short.message
    assert "its disk has 0.25 GiB free" in short.message
    assert obstacles(made, made.order[:1], folder) == (), "for one training there is room"


def test_a_cell_has_another_name_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = STUDY.replace('device = "DEVICE"\n', "")
    monkeypatch.setattr(plans, "gpu_count", lambda: 0)
    on_cpus = {one.trial_id for one in planned(tmp_path, text).order}
    assert on_cpus == {one.trial_id for one in planned(tmp_path, device="cpu").order}
    monkeypatch.setattr(plans, "gpu_count", lambda: 4)
    assert on_cpus.isdisjoint(one.trial_id for one in planned(tmp_path, text).order)


def test_what_is_pending_is_what_is_not_there_and_if_told_so_what_failed(tmp_path: Path) -> None:
    made, folder = planned(tmp_path), StudyFolder(root=tmp_path)
    first, second, *rest = made.order
    folder.store.add(trial(cell(), trial_id=first.trial_id, status=FINISHED))
    folder.store.add(trial(cell(), trial_id=second.trial_id, status=FAILED))
    folder.store.add(trial(cell(), trial_id="of another file", status=FAILED))
    assert pending(made, folder, again=False) == rest
    assert pending(made, folder, again=True) == [second, *rest]


@pytest.mark.parametrize(
    ("wrong", "line", "says"),
    [
        (("ranks = [2, 4]", "ranks = [2, 4]\nnodes = [2]"), 10, "2 nodes, and no hosts are named"),
        (("steps = 30", 'steps = 30\ndata = "absent"'), 4, "no CIFAR-10 in absent"),
        # Of 1,500 images 4 ranks take 375 each: 11 micro-batches of 32, whose 12th is not whole.
        (("steps = 30", "epochs = 1"), 3, "1 epoch of 1,500 images are 11 steps at a global batch of 128, of"),
        (("ranks = [2, 4]", "ranks = [2, 4]\nbatch_size = [400]"), 10, "4 ranks with 400 samples each are more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_obstacles_are_told_with_their_lines(tmp_path: Path, wrong: tuple[str, str], line: int, says: str) -> None:
    obstacles = planned(tmp_path, STUDY.replace(*wrong)).obstacles
    assert [f"line {line}: {says}" in error.message for error in obstacles] == [True]


def test_epochs_that_last_long_enough_are_none(tmp_path: Path) -> None:
    assert planned(tmp_path, STUDY.replace("steps = 30", "epochs = 2")).obstacles == ()
    text = STUDY.replace("steps = 30", "epochs = 2") + "accumulation = [2]\n"
    assert "2 epochs of 1,500 images are 11 steps at a global batch of 256" in str(planned(tmp_path, text).obstacles[0])


def test_images_that_are_not_all_there_are_an_obstacle(tmp_path: Path) -> None:
    text = STUDY.replace("steps = 30", f"steps = 30\ndata = '{tmp_path}'")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    assert f"{folder} has no data_batch_1" in planned(tmp_path, text).obstacles[0].message
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).touch()
    assert planned(tmp_path, text).obstacles == ()


def test_gpus_that_are_not_there_are_an_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "gpu_count", lambda: 0)
    assert "line 4: this machine has no GPU" in planned(tmp_path, device="cuda").obstacles[0].message
    monkeypatch.setattr(plans, "gpu_count", lambda: 2)
    message = planned(tmp_path, device="cuda").obstacles[0].message
    assert "line 9: 4 ranks on 1 node are more than 2 GPUs a node" in message


def test_a_node_is_told_its_number_and_all_nodes_the_same_meeting_place(tmp_path: Path) -> None:
    hosts = Hosts(names=("node-a", "node-b"), shell="on {host}")
    text = STUDY.replace("ranks = [2, 4]", "ranks = [4]\nnodes = [2]")
    one = planned(tmp_path, text, hosts=hosts).order[0]
    first, second = commands(one, TrialFolder(tmp_path), hosts, 4242)
    assert (first[:2], second[:2]) == (["on", "node-a"], ["on", "node-b"])
    for number, command in enumerate((first, second)):
        words = " ".join(command)
        assert f"--node-rank {number} --nproc-per-node 2 --master-addr node-a --master-port 4242" in words
        assert f"--out {tmp_path / 'run'} --steps 10:15 --" in words
