"""What a study is going to run, in which order, checked against the machines before the first training starts.

The order is one of randomised blocks: each repeat runs every cell once, in a random order of its own, so that a machine
that becomes slower does so for all cells alike. The same seed gives the same order, which is what lets a study go on.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.study.bench.cells import Cell, cells, knobs_of
from shardprof.study.bench.hosts import Hosts
from shardprof.study.bench.machine import gpu_count
from shardprof.study.bench.study_file import Located, StudyError
from shardprof.study.bench.trial import Planned
from shardprof.study.shapes import MODELS
from shardprof.words import gibibytes, plural

DIGITS = "digits"
_TRAIN_IMAGES = {"digits": 1_500, "CIFAR-10": 50_000}
_CIFAR_FOLDER = "cifar-10-batches-py"
_PACKAGES = {"torch": "torch", "torchvision": "study", "deepspeed": "deepspeed", "sklearn": "study"}
_CAPTURED_STEP_BYTES = 3 * 2**20
_RECORDED_RANK_BYTES = 2 * 2**20
"""What a rank leaves on disk: for each captured step, and beside them; a ViT-B's step is 1 to 2 MB of trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trainings in their order, on a `device` "cuda" or "cpu". `obstacles` keep them from being run here."""

    located: Located
    cells: tuple[Cell, ...]
    device: str
    order: tuple[Planned, ...]
    obstacles: tuple[StudyError, ...]

    @property
    def disk_bytes(self) -> int:
        """About what all of them leave on disk."""
        length = self.located.file.study
        a_rank = length.captured * _CAPTURED_STEP_BYTES + _RECORDED_RANK_BYTES
        return sum(planned.cell.ranks * a_rank for planned in self.order)


def plan(path: Path, hosts: Hosts, fabric_bytes_per_s: float | None) -> Plan:
    """Of a study file. Raises StudyError with its line for what cannot be run anywhere."""
    located = Located(path)
    length = located.file.study
    device = length.device or ("cuda" if gpu_count() else "cpu")
    found = cells(located, tuple(MODELS), device)
    order = tuple(
        Planned(
            cell=cell,
            knobs=knobs_of(cell, located.file.knobs),
            length=length,
            repeat=repeat,
            position=position,
            device=device,
            fabric_bytes_per_s=fabric_bytes_per_s,
        )
        for position, (repeat, cell) in enumerate(_blocks(found, length.repeats, length.seed))
    )
    obstacles = (
        *_of_machines(located, found, hosts, device),
        *_of_packages(located, found),
        *_of_images(located, found),
    )
    return Plan(located=located, cells=found, device=device, order=order, obstacles=obstacles)


def check_disk(located: Located, folder: Path, need_bytes: int) -> None:
    """Raise StudyError where the disk of `folder` has less room than that."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < need_bytes:
        message = (
            f"the trainings leave about {gibibytes(need_bytes)} in {folder}, and its disk has {gibibytes(free)} free"
        )
        raise located.mistake(
            ".study.repeats", message, "choose another place with --out, or lower repeats or captured"
        )


def _blocks(found: Sequence[Cell], repeats: int, seed: int) -> list[tuple[int, Cell]]:
    order = []
    for repeat in range(repeats):
        block = list(found)
        random.Random(f"{seed} {repeat}").shuffle(block)
        order += [(repeat, cell) for cell in block]
    return order


def _of_machines(located: Located, found: Sequence[Cell], hosts: Hosts, device: str) -> Iterator[StudyError]:
    most = max(cell.nodes for cell in found)
    if most > max(1, len(hosts.names)):
        remedy = "name as many with --hosts a,b,..., or lower nodes"
        yield located.mistake(".matrix.nodes", f"{most} nodes, and {len(hosts.names) or 'no'} hosts are named", remedy)
    gpus = gpu_count()
    if device == "cuda" and not gpus:
        yield located.mistake(".study.device", "this machine has no GPU", 'set device to "cpu", or use another machine')
        return
    too_many = [cell for cell in found if device == "cuda" and cell.ranks // cell.nodes > gpus]
    if too_many:
        nodes = plural(too_many[0].nodes, "node")
        message = f"{too_many[0].ranks} ranks on {nodes} are more than {plural(gpus, 'GPU')} a node"
        yield located.mistake(".matrix.ranks", message, "lower ranks, or use more nodes")


def _of_packages(located: Located, found: Sequence[Cell]) -> Iterator[StudyError]:
    needed = {"torch": ".study", "torchvision": ".study"}
    if located.file.study.data == DIGITS:
        needed["sklearn"] = ".study.data"
    if any(cell.strategy.startswith("zero") for cell in found) or located.file.study.launcher == "deepspeed":
        needed["deepspeed"] = ".matrix.strategy"
    for package, place in needed.items():
        if importlib.util.find_spec(package) is None:
            message = f"{package} is needed for this and not installed"
            yield located.mistake(place, message, f"pip install 'shardprof[{_PACKAGES[package]}]'")


def _of_images(located: Located, found: Sequence[Cell]) -> Iterator[StudyError]:
    data = located.file.study.data
    if data != DIGITS and not (Path(data) / _CIFAR_FOLDER).is_dir():
        message = f"no CIFAR-10 in {data}: it has no folder {_CIFAR_FOLDER}"
        yield located.mistake(".study.data", message, 'name the folder that holds it, or use "digits"')
    images = _TRAIN_IMAGES[DIGITS if data == DIGITS else "CIFAR-10"]
    largest = max(found, key=lambda cell: cell.batch_size * cell.ranks)
    if largest.batch_size * largest.ranks > images:
        message = f"{largest.ranks} ranks with {largest.batch_size} samples each are more than the {images:,} images"
        yield located.mistake(".matrix.batch_size", message, "lower batch_size or ranks")
