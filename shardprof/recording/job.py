"""Runs the job as if it had been started directly: same terminal, same process group, same signals, same exit code."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from shardprof.errors import ShardprofError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2
)  # fmt: skip
AWAITED = frozenset({*FORWARDED, signal.SIGCHLD})


def run_job(
    command: Sequence[str], environment: Mapping[str, str], while_running: Callable[[], None] = lambda: None
) -> int:
    """Start the job, call `while_running` once it runs, wait for it, and return its exit code (128 + n for signal n).

    A signal that a process sent to us goes on to the job; one that the terminal sent has reached it already. The
    signals stay blocked in this process afterwards, which is about to end: it never dies before the job does.
    Raises ShardprofError where the command cannot be executed.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    try:
        process = subprocess.Popen(command, env=environment, preexec_fn=unblock)  # no thread has been started yet
    except OSError as error:
        raise ShardprofError(f"{command[0]} cannot be executed: {error.strerror}", "is it a program?") from error
    while_running()
    while process.poll() is None:
        received = signal.sigtimedwait(AWAITED, 1.0)
        if received is not None and received.si_signo in FORWARDED and received.si_code <= 0:
            process.send_signal(received.si_signo)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
