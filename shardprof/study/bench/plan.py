"""What a study is going to run, in which order, checked against the machines before the first training starts.

The order is one of randomised blocks: each repeat runs every cell once, in a random order of its own, so that a machine
that becomes slower does so for all cells alike. The same seed gives the same order, which is what lets a study go on.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from shardprof.study.bench.cells import Cell, knobs_of
from shardprof.study.bench.hosts import Hosts
from shardprof.study.bench.located import Located, StudyError
from shardprof.study.bench.machine import gpu_count
from shardprof.study.bench.matrix import cells
from shardprof.study.bench.trial import Planned
from shardprof.study.shapes import MODELS
from shardprof.words import plural

DIGITS = "digits"
_TRAIN_IMAGES = {"digits": 1_500, "CIFAR-10": 50_000}
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_PACKAGES = {"torch": "torch", "torchvision": "study", "deepspeed": "deepspeed", "sklearn": "study"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trainings in their order, on a `device` "cuda" or "cpu". `obstacles` keep them from being run here."""

    located: Located
    cells: tuple[Cell, ...]
    device: str
    order: tuple[Planned, ...]
    obstacles: tuple[StudyError, ...]


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
    if data != DIGITS:
        folder = Path(data) / _CIFAR_FOLDER
        absent = [name for name in _CIFAR_FILES if not (folder / name).is_file()]
        if absent:
            what = f"{folder} has no {absent[0]}" if folder.is_dir() else f"it has no folder {_CIFAR_FOLDER}"
            message = f"no CIFAR-10 in {data}: {what}"
            yield located.mistake(".study.data", message, 'name the folder that holds it, or use "digits"')
    images = _TRAIN_IMAGES[DIGITS if data == DIGITS else "CIFAR-10"]
    largest = max(found, key=lambda cell: cell.batch_size * cell.ranks)
    if largest.batch_size * largest.ranks > images:
        message = f"{largest.ranks} ranks with {largest.batch_size} samples each are more than the {images:,} images"
        yield located.mistake(".matrix.batch_size", message, "lower batch_size or ranks")
        return
    yield from _of_epochs(located, found, images)


def _of_epochs(located: Located, found: Sequence[Cell], images: int) -> Iterator[StudyError]:
    length = located.file.study
    if length.epochs is None:
        return
    steps, cell = min(((_steps(cell, length.epochs, images), cell) for cell in found), key=itemgetter(0))
    if steps < length.least_steps:
        message = (
            f"{plural(length.epochs, 'epoch')} of {images:,} images are {plural(steps, 'step')} at a global batch of "
            f"{cell.global_batch:,}, of which none counts in figures"
        )
        yield located.mistake(".study.epochs", message, "raise epochs, or lower batch_size, accumulation or warm_up")


def _steps(cell: Cell, epochs: int, images: int) -> int:
    """What the workload makes of epochs: images that fill no micro-batch of all ranks are left over."""
    micro_batches = images // cell.ranks // cell.batch_size
    return max(1, epochs * micro_batches // cell.accumulation)
