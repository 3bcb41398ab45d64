"""The processes of one training, one a node: started together, stopped together, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_LOOK_EVERY_S = 0.2
_OTHERS_MAY_TAKE_S = 60
"""After one node has failed; its peers usually notice."""
_STOPPING_MAY_TAKE_S = 30
_PR_SET_PDEATHSIG = 1


def run_nodes(commands: Sequence[list[str]], outputs: Sequence[Path], timeout_s: int) -> tuple[list[int], bool]:
    """Run the commands to their ends, what each prints going to its file: their exit codes, and whether they had to be
    stopped because the time was over. What interrupts this stops them too."""
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(path.open("wb")) for path in outputs]
        processes: list[subprocess.Popen[bytes]] = []
        opened.callback(_stop, processes)
        for command, file in zip(commands, files, strict=True):
            processes.append(_start(command, file))
        in_time = _wait(processes, timeout_s)
        _stop(processes)
        return [process.returncode for process in processes], not in_time


def _start(command: list[str], output: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=_die_with_parent,
    )  # fmt: skip


def _die_with_parent() -> None:
    """A study that is killed takes its training with it: left behind, it would slow the next one down."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(processes: Sequence[subprocess.Popen[bytes]], timeout_s: int) -> bool:
    """Whether all ended in time, or one failed and the others did not follow."""
    deadline = time.monotonic() + timeout_s
    failed_at: float | None = None
    while any(process.poll() is None for process in processes):
        now = time.monotonic()
        if now > deadline:
            return False
        if failed_at is None and any(process.poll() for process in processes):
            failed_at = now
        if failed_at is not None and now > failed_at + _OTHERS_MAY_TAKE_S:
            return True
        time.sleep(_LOOK_EVERY_S)
    return True


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """First as a user would, so that records are completed; then for good, and whatever they started."""
    running = [process for process in processes if process.poll() is None]
    family = [member for process in running for member in _descendants(process.pid)]
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOPPING_MAY_TAKE_S)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    for process in running:
        process.kill()
        process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
