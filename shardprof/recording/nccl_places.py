"""Where the rings of NCCL's plugin lie: in the run folder, unless a store into a file there could wait for a network.

A ring is mapped into the training. Its pages are written back by the kernel, and on some file systems a thread that
stores into a page waits until that is done: on a network's for as long as its server likes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

_LOCAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"})
_MEMORY = Path("/dev/shm")
_MUCH_BYTES = 1 << 30
"""Containers have 64 MB there by default, which NCCL and data loaders need themselves."""
_MOUNTS = Path("/proc/self/mountinfo")


def ring_folder(kept: Path, mounts: Path = _MOUNTS) -> Path:
    """Where the processes of a node put their rings, whose records are kept in `kept`."""
    if _file_system(kept, mounts) in _LOCAL:
        return kept
    in_memory, on_disk = temporary_folders(kept)
    return in_memory if _has_room(_MEMORY) else on_disk


def temporary_folders(kept: Path) -> tuple[Path, Path]:
    """The places that are not in the run folder: in memory, and where temporary files go. Every process finds the same
    for one `kept`."""
    name = f"shardprof-{os.getuid()}-{hashlib.sha256(os.fsencode(kept.absolute())).hexdigest()[:16]}"
    return _MEMORY / name, Path(tempfile.gettempdir()) / name


def is_ours(folder: Path) -> bool:
    """Make a folder, unless it is there: whether it then is one of this user's, and no link."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid()


def _has_room(folder: Path) -> bool:
    try:
        told = os.statvfs(folder)
    except OSError:
        return False
    return told.f_bavail * told.f_frsize >= _MUCH_BYTES


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that a folder is on, or will be; empty where that is not known."""
    place = os.path.realpath(folder)
    found: dict[str, str] = {}
    try:
        for line in mounts.read_text(errors="replace").splitlines():
            mount, _, source = line.partition(" - ")
            found[mount.split()[4]] = source.split()[0]
    except (OSError, IndexError):
        return ""
    above = [point for point in found if place == point or place.startswith(point.rstrip("/") + "/")]
    return found[max(above, key=len)] if above else ""
