"""The images: CIFAR-10 as torchvision reads it, and scikit-learn's digits in the same file layout.

    <root>/digits-batches-py/    data_batch_1 .. data_batch_5, test_batch, batches.meta   pickled as CIFAR-10 does
                             checksums.json                                           their MD5 sums

The digits (1,797 of them, 8x8 grey) become 32x32 RGB, 1,500 to train on and 297 to test on.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from shardprof.study.errors import WorkloadError
from shardprof.study.vision import datasets, transforms

DIGITS = "digits"
IMAGE_SIZE = 32
_TRAIN_BATCHES = 5
_TRAIN_IMAGES_PER_BATCH = 300
_CHECKSUMS = "checksums.json"
_SHUFFLE_SEED = 0


class Digits(datasets.CIFAR10):  # type: ignore[misc]  # torchvision is untyped
    """scikit-learn's digits through CIFAR-10's own reader, checked against the checksums written beside them."""

    base_folder = "digits-batches-py"

    def __init__(self, root: Path, *, train: bool = True, transform: Any = None) -> None:
        sums = json.loads((root / self.base_folder / _CHECKSUMS).read_text())
        self.train_list = [[name, sums[name]] for name in sorted(sums) if name.startswith("data_batch_")]
        self.test_list = [["test_batch", sums["test_batch"]]]
        self.meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
        super().__init__(root, train=train, transform=transform)


def load(data: str, *, image_size: int, download: bool = False) -> tuple[Any, Any]:
    """The train and the test split of `data`: "digits", or a folder that holds (or, with `download`, gets) CIFAR-10.

    Raises WorkloadError where the data is not there or cannot be made. Safe to call from many processes at once.
    """
    transform = _transform(image_size)
    if data == DIGITS:
        return _digits(make_digits(cache_folder()), transform)
    return _cifar10(Path(data), transform, download=download)


def cache_folder() -> Path:
    """Where made data is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardprof"


def make_digits(root: Path) -> Path:
    """Write the digits below `root` unless they are there; one process writes, the others wait and find them."""
    if not importlib.util.find_spec("sklearn"):
        raise WorkloadError("the digits come from scikit-learn, which is not installed", "pip install shardprof[study]")
    with _one_at_a_time(root):
        folder = root / Digits.base_folder
        if not folder.exists():
            _write_digits(folder)
    return root


def _digits(root: Path, transform: Any) -> tuple[Any, Any]:
    try:
        return Digits(root, transform=transform), Digits(root, train=False, transform=transform)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        folder = root / Digits.base_folder
        raise WorkloadError(f"the digits in {folder} are damaged", "remove that folder; they are made anew") from error


def _cifar10(root: Path, transform: Any, *, download: bool) -> tuple[Any, Any]:
    try:
        if download:
            with _one_at_a_time(root):
                datasets.CIFAR10(root, download=True)
        return datasets.CIFAR10(root, transform=transform), datasets.CIFAR10(root, train=False, transform=transform)
    except (RuntimeError, OSError) as error:
        hint = "try --download, --data FOLDER or --data digits"
        raise WorkloadError(f"no CIFAR-10 in {root} ({_first_line(error)})", hint) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _transform(image_size: int) -> Any:
    resize = [] if image_size == IMAGE_SIZE else [transforms.Resize(image_size)]
    normalize = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return transforms.Compose([*resize, transforms.ToTensor(), normalize])


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise WorkloadError(f"cannot write to {root}: {error.strerror}", "choose another place for the data") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(digits.target))
    images, labels = _as_rgb(digits.images[order]), digits.target[order].tolist()
    train_images = _TRAIN_BATCHES * _TRAIN_IMAGES_PER_BATCH
    edges = [*range(0, train_images + 1, _TRAIN_IMAGES_PER_BATCH), len(labels)]
    names = [*(f"data_batch_{number}" for number in range(1, _TRAIN_BATCHES + 1)), "test_batch"]
    files: dict[str, Any] = {
        name: {"batch_label": name, "data": images[begin:end], "labels": labels[begin:end]}
        for name, (begin, end) in zip(names, pairwise(edges), strict=True)
    }
    files["batches.meta"] = {
        "label_names": [str(label) for label in digits.target_names],
        "num_cases_per_batch": _TRAIN_IMAGES_PER_BATCH,
        "num_vis": images.shape[1],
    }
    _write_folder(folder, {name: pickle.dumps(content, protocol=2) for name, content in files.items()})


def _as_rgb(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images of grey levels 0..16 as rows of bytes: a red plane, then green, then blue, as in CIFAR-10."""
    scale = IMAGE_SIZE // grey.shape[1]
    levels = (grey * (255 / 16)).astype(np.uint8)
    plane = levels.repeat(scale, axis=1).repeat(scale, axis=2).reshape(len(grey), -1)
    return np.tile(plane, 3)


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".digits-", dir=folder.parent))
    try:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
        (partial / _CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
