"""py-spy, which reads the Python stacks of another process from outside: where it is, and a run of it on a known clock.

py-spy counts time from a moment of its own, which it tells nobody. That moment lies right before it starts its second
thread: between the last look at which the thread was not there and the first at which it was, and inside the clock
tick that the kernel has noted as the thread's start. The second holds where the looks come late on a busy machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE_HZ = 100
LOOK_INTERVAL_S = 0.0002
MOST_LOOKING_S = 2.0
MOST_OUTPUT_BYTES = 256 << 20

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_START_TIME = 19  # its place among the fields of /proc/<pid>/stat that follow the name
_COUNTS = re.compile(r"Samples: (\d+) Errors: (\d+)")
_DENIED = re.compile(r"[Pp]ermission [Dd]enied|os error 1\b")


class SamplingError(Exception):
    """A run of py-spy came to nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """py-spy's time zero on the monotonic clock: at most `uncertainty_ns` before or after `zero_ns`."""

    zero_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class Samples:
    """What a run of py-spy saw: its Chrome trace's events, the stacks that it read, how often it failed to.

    py-spy does not tell which threads ended meanwhile: `living` were there at the end, and `seen_us` is when others
    last were, by the operating system's number, in microseconds since `anchor`.
    """

    anchor: Anchor
    events: list[dict[str, Any]]
    samples: int
    errors: int
    living: frozenset[int]
    seen_us: dict[int, int]


def find() -> str | None:
    """The program: on PATH or beside this interpreter."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))


class Sampling:
    """One run of py-spy over the process `pid`: RATE_HZ samples a second of all its threads, without pausing it.

    It ends after `duration_s`, with that process, or by `interrupt`, whichever is first. `scratch` is a path for its
    output to begin with. OSError where py-spy cannot be started.
    """

    def __init__(self, program: str, pid: int, duration_s: int, scratch: Path) -> None:
        self._output = scratch.with_name(f"{scratch.name}.json")
        self._log = scratch.with_name(f"{scratch.name}.log")
        self._pid = pid
        self._status: int | None = None
        self._living: frozenset[int] = frozenset()
        self._seen_ns: dict[int, int] = {}
        command = [
            program, "record", "--pid", str(pid), "--nonblocking", "--idle", "--threads", "--rate", str(RATE_HZ),
            "--duration", str(duration_s), "--format", "chrometrace", "--output", str(self._output),
        ]  # fmt: skip
        before_ns = time.monotonic_ns()
        # Not subprocess: it would hand on the recorder's blocked signals, and preexec_fn is unsafe beside threads.
        self._spy = os.posix_spawn(
            program,
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self._log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=(),
            setsid=True,  # Ctrl-C in the terminal is for the job
        )
        self._anchor = _anchor(self._spy, before_ns)

    def look(self) -> None:
        """Notice which threads the process has now."""
        if threads := _threads(self._pid):  # else it has ended itself, and py-spy knows
            self._living = threads
            self._seen_ns |= dict.fromkeys(threads, time.monotonic_ns())

    def has_ended(self) -> bool:
        """Is py-spy over?"""
        if self._status is None:
            try:
                ended, status = os.waitpid(self._spy, os.WNOHANG)
            except ChildProcessError:  # nobody waits for children where SIGCHLD is ignored
                ended, status = self._spy, 0
            self._status = status if ended else None
        return self._status is not None

    def interrupt(self) -> None:
        """Let py-spy end now and write what it has."""
        if not self.has_ended():
            os.kill(self._spy, signal.SIGINT)

    def kill(self) -> None:
        """End py-spy now; what it has is lost."""
        if not self.has_ended():
            os.kill(self._spy, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._spy, 0)
        self._remove()

    def take(self) -> Samples:
        """What it saw, once it has ended; its files are gone then. Raises SamplingError where there is nothing."""
        try:
            log = self._log.read_text(errors="replace")
            if self._status:
                raise SamplingError(_why(self._status, log))
            if self._output.stat().st_size > MOST_OUTPUT_BYTES:
                raise SamplingError(f"py-spy wrote more than {MOST_OUTPUT_BYTES >> 20} MB")
            if self._anchor is None:
                raise SamplingError("the beginning of py-spy's clock was not seen")
            counts = _COUNTS.search(log)
            samples, errors = map(int, counts.groups()) if counts else (0, 0)
            seen_us = {tid: (seen_ns - self._anchor.zero_ns) // 1000 for tid, seen_ns in self._seen_ns.items()}
            events = json.loads(self._output.read_bytes())
            return Samples(self._anchor, events, samples, errors, self._living, seen_us)
        except (OSError, ValueError) as error:
            raise SamplingError(f"py-spy left nothing that could be read: {error!r}") from error
        finally:
            self._remove()

    def _remove(self) -> None:
        self._output.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)


def _anchor(spy: int, earliest_ns: int) -> Anchor | None:
    """When py-spy's clock began; None where it ended before, or never began within MOST_LOOKING_S."""
    give_up_ns = earliest_ns + round(MOST_LOOKING_S * 1e9)
    while (looked_ns := time.monotonic_ns()) < give_up_ns:
        if (tick_ns := _second_thread_began_ns(spy)) is not None:
            earliest_ns = max(earliest_ns, tick_ns)
            latest_ns = max(earliest_ns, min(time.monotonic_ns(), tick_ns + _TICK_NS))
            return Anchor((earliest_ns + latest_ns) // 2, (latest_ns - earliest_ns + 1) // 2)
        earliest_ns = looked_ns
        time.sleep(LOOK_INTERVAL_S)
    return None


def _second_thread_began_ns(pid: int) -> int | None:
    """When, by the monotonic clock and at most a tick too early; None while there is one thread only."""
    others = _threads(pid) - {pid}
    if not others:
        return None
    try:
        stat = Path(f"/proc/{pid}/task/{min(others)}/stat").read_text()
    except OSError:  # ended meanwhile
        return None
    since_boot_ns = int(stat.rpartition(")")[2].split()[_START_TIME]) * _TICK_NS
    return since_boot_ns - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns())


def _threads(pid: int) -> frozenset[int]:
    """The threads of a process; none once it has ended."""
    try:
        return frozenset(int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return frozenset()


def _why(status: int, log: str) -> str:
    if os.WIFSIGNALED(status):
        return f"py-spy was killed by signal {os.WTERMSIG(status)}"
    if _DENIED.search(log):
        return (
            "py-spy may not read the job's processes: run as root, or sysctl kernel.yama.ptrace_scope=0,"
            " or give the container SYS_PTRACE"
        )
    said = next((line for line in log.splitlines() if line.startswith("Error: ")), f"exit status {status}")
    return f"py-spy failed: {said.removeprefix('Error: ')}"
