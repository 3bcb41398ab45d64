"""Which machine is this, and does the recorder of a host record still run?"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from shardprof.recording import identity
from shardprof.trace.schema import COUNTERS_FILE, HOST_FILE, HostRecord, read_whole

SILENCE_S = 60.0  # a live recorder writes a sample several times a second


def is_alive(folder: Path) -> bool:
    """Does the recorder whose host folder this is still run?"""
    try:
        host = read_whole(HostRecord, folder / HOST_FILE)
    except (OSError, ValueError, TypeError):
        return is_fresh(folder)  # claimed a moment ago, or killed right then
    if host.outcome is not None:
        return False
    if host.identity == identity.of_node():
        return bool(psutil.pid_exists(host.launcher_pid))
    return is_fresh(folder / COUNTERS_FILE) or is_fresh(folder / HOST_FILE)


def identity_in(folder: Path) -> str | None:
    """Which node the recorder of this host folder is on, as far as that can be read."""
    try:
        return read_whole(HostRecord, folder / HOST_FILE).identity
    except (OSError, ValueError, TypeError):
        return None


def is_fresh(path: Path) -> bool:
    """Was `path` written within the last minute?"""
    try:
        return abs(time.time() - path.stat().st_mtime) < SILENCE_S
    except OSError:
        return False


def describe(name: str) -> HostRecord:
    """This machine, with this process as its recorder."""
    return HostRecord(
        name=name,
        identity=identity.of_node(),
        launcher_pid=os.getpid(),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
    )
