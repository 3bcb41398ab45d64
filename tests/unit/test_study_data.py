"""The digits are CIFAR-10 in all but content, and whole whoever makes them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from shardprof.study import data
from shardprof.study.errors import WorkloadError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.make_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return data.cache_folder()


def test_the_files_are_laid_out_as_cifar10_s(root: Path) -> None:
    folder = root / "digits-batches-py"
    names = ["batches.meta", "checksums.json", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    assert sorted(path.name for path in folder.iterdir()) == names
    batch = pickle.loads((folder / "data_batch_3").read_bytes(), encoding="latin1")
    assert batch["data"].shape == (300, 3 * 32 * 32)
    assert batch["data"].dtype == np.uint8
    assert len(batch["labels"]) == 300


def test_every_digit_is_in_one_split_with_its_own_label(root: Path) -> None:
    splits = [data.Digits(root, train=train) for train in (True, False)]
    assert [len(split) for split in splits] == [1500, 297]
    ours = {(np.asarray(image)[::4, ::4, 0].tobytes(), label) for split in splits for image, label in split}
    source = load_digits()
    levels = (source.images * (255 / 16)).astype(np.uint8)
    assert ours == {(image.tobytes(), label) for image, label in zip(levels, source.target.tolist(), strict=True)}


def test_an_image_is_grey_in_three_equal_colours(root: Path) -> None:
    image = np.asarray(data.Digits(root, train=False)[0][0])
    assert image.shape == (32, 32, 3)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert image.max() > 200


def test_processes_that_start_together_make_one_whole_folder(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from shardprof.study.data import make_digits; make_digits(Path({str(tmp_path)!r}))"
    )
    makers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [maker.wait(timeout=120) for maker in makers] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "digits-batches-py"]
    assert len(data.Digits(tmp_path)) == 1500


def test_damaged_digits_are_refused_with_what_to_do(cache: Path) -> None:
    folder = data.make_digits(cache) / "digits-batches-py"
    (folder / "data_batch_2").write_bytes(b"torn")
    with pytest.raises(WorkloadError, match="damaged; remove that folder"):
        data.load("digits", image_size=32)


def test_images_are_resized_to_what_the_model_takes(cache: Path) -> None:
    train, test = data.load("digits", image_size=48)
    assert train[0][0].shape == test[0][0].shape == (3, 48, 48)


def test_missing_cifar10_is_one_line_with_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(
        WorkloadError, match=r"no CIFAR-10 in .*; try --download, --data FOLDER or --data digits"
    ) as error:
        data.load(str(tmp_path / "nowhere"), image_size=32)
    assert "\n" not in str(error.value)
