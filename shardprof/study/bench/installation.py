"""Which processor, which packages and which commit a figure was measured with; of the standard library alone, since who
measures a process has to stay small beside it."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PROBE_S = 20


def version(package: str) -> str:
    """Of an installed distribution; "" where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """As the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """Of the checkout that shardprof is installed from, and whether files of it were changed since; "" without one."""
    git = ("git", "--no-optional-locks", "-C", str(Path(__file__).parent))
    name = printed(*git, "rev-parse", "--short=12", "HEAD")
    return name + (" (changed)" if name and printed(*git, "status", "--porcelain", "-uno") else "")


def printed(*command: str) -> str:
    """What a command prints; "" where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
