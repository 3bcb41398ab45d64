"""What a process cost, seen from outside, and the machine that it cost this on."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from shardprof.study.bench.installation import commit, processor, version

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of a command, its start included.

    `cpu_s` is user and system time of the process and of all that it waited for. `peak_rss_bytes` is that of the
    largest of these processes; the kernel hands it on at the start, so that it is never less than the peak of the
    process that measures: keep that one small.
    """

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


def measure(command: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[Sample, str]:
    """Runs a command (its first word is a path) to its end: what it cost and what it printed.

    `environment` is added to that of this process. Ends the script where the command fails, with what it said.
    """
    arguments = [str(word) for word in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        redirections = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
        begin = time.perf_counter()
        process = os.posix_spawn(arguments[0], arguments, os.environ | environment, file_actions=redirections)
        _, status, usage = os.wait4(process, 0)
        wall_s = time.perf_counter() - begin
        out.seek(0)
        err.seek(0)
        if status:
            said = err.read().decode(errors="replace").strip()
            sys.exit(f"{' '.join(arguments)}: exit code {os.waitstatus_to_exitcode(status)}\n{said}")
        sample = Sample(cpu_s=usage.ru_utime + usage.ru_stime, wall_s=wall_s, peak_rss_bytes=usage.ru_maxrss * 1024)
        return sample, out.read().decode()


def spread(values: Sequence[float]) -> str:
    """The median, and between which values it lies."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}..{number(max(values))})"


def number(value: float) -> str:
    """With about three digits."""
    decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:,.{decimals}f}"


def machine(*packages: str) -> dict[str, str]:
    """Where a result comes from: processor, cores, kernel, Python, the commit, and the versions of `packages`."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_bytes": str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit(),
        **{package: version(package) or "not installed" for package in packages},
    }
