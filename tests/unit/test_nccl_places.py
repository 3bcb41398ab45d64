"""Rings lie in the run folder, but never where a store could wait for a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardprof.recording.beside.nccl_rings import NcclRings
from shardprof.recording.nccl_places import is_ours, ring_folder, temporary_folders
from shardprof.trace.importers import nccl_plugin

from .planted_rings import Planted, plant


def mounts(tmp_path: Path, *told: tuple[str, str]) -> Path:
    lines = [f"{i} 1 0:{i} / {point} rw,relatime shared:1 - {kind} source rw" for i, (point, kind) in enumerate(told)]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    return tmp_path / "mountinfo"


@pytest.mark.parametrize(
    ("told", "stays"),
    [
        ((("/", "ext4"),), True),
        ((("/", "overlay"), ("/scratch", "nfs4")), True),
        ((("/", "ext4"), ("/shared", "nfs4")), False),
        ((("/", "ext4"), ("/shared", "lustre")), False),
        ((("/", "ext4"), ("/shared", "nfs4"), ("/shared/local", "xfs")), False),
        ((("/", "ext4"), ("/shared", "nfs4"), ("/shared/runs", "xfs")), True),
        ((("/", "fuse.something"),), False),
        ((), False),
    ],
)
def test_only_a_local_file_system_holds_a_ring(
    tmp_path: Path, told: tuple[tuple[str, str], ...], *, stays: bool
) -> None:
    kept = Path("/shared/runs/7/nccl/node")
    folder = ring_folder(kept, mounts(tmp_path, *told))
    assert folder == kept if stays else folder in temporary_folders(kept)


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    assert is_ours(tmp_path / "new")
    assert is_ours(tmp_path / "new")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert not is_ours(tmp_path / "link")
    (tmp_path / "file").touch()
    assert not is_ours(tmp_path / "file")
    other = tmp_path / "other"
    other.mkdir()
    if os.getuid() == 0:
        os.chown(other, 12345, 12345)
        assert not is_ours(other)


def test_a_run_has_places_of_its_own() -> None:
    assert temporary_folders(Path("/a/nccl/b")) == temporary_folders(Path("/a/nccl/b"))
    assert not set(temporary_folders(Path("/a/nccl/b"))) & set(temporary_folders(Path("/a/nccl/c")))


def test_rings_elsewhere_are_kept_in_the_run_and_leave_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "run" / "nccl" / "node"
    calls = [Planted(function="AllGather", count=1, sequence=i, begin_ns=10**18, end_ns=10**18 + 5) for i in range(9)]
    for folder, pid in zip(temporary_folders(kept), (7, 8), strict=True):
        plant(folder, pid, [(1, 0, 2)], calls)
    rings = NcclRings(kept, pytest.fail)
    rings.stop()
    assert not any(folder.exists() for folder in temporary_folders(kept))
    for pid in ("7", "8"):
        records = nccl_plugin.read(kept, pid)
        assert records is not None
        assert len(records.operations) == 9
