"""Keeps the captured steps when SIGTERM comes, without keeping the process: torchrun sends it to a failed rank's peers.

A Python handler runs only when the main thread comes back to the interpreter, which a rank that waits for a collective
may never do; and the profiler stops when the GPU is done, which behind a dead peer's collective is never. So a thread
reads the signal too and, should the handler not begin or not end in time, lets the signal kill the process as it would
have done without shardprof.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

BEGIN_WITHIN_S = 5.0
SAVE_WITHIN_S = 15.0  # torchrun kills 30 s after the signal


class TerminationGuard:
    """Between `install` and `remove`: on SIGTERM call `save`, then die of the signal all the same."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save
        self._began = threading.Event()
        self._installed = False
        self._is_held = False
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._mask: set[int] | None = None
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._forget_in_fork
        )

    def install(self) -> None:
        """Take SIGTERM over where nobody else has; only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        signal.signal(signal.SIGTERM, self._on_signal)
        self._installed = True
        self._watch()

    def remove(self) -> None:
        """Give SIGTERM back."""
        if not self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = False
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._wakeup is not None:
            _, writer = self._wakeup
            if (current := signal.set_wakeup_fd(-1)) != writer.fileno():
                signal.set_wakeup_fd(current)
            writer.close()  # the thread reads the end of the stream and goes
            self._wakeup = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the profiler changes its state it cannot be stopped: a signal that comes inside counts afterwards."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._began.is_set():
                self._save_and_die()

    def _before_fork(self) -> None:
        """Hold SIGTERM back: Python drops one that reaches the child while it still has our handler."""
        if self._installed:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _after_fork(self) -> None:
        mask, self._mask = self._mask, None
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _forget_in_fork(self) -> None:
        """SIGTERM is not ours in the child, nor to be passed to the parent by the shared socket."""
        if self._installed:
            self._installed = False
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._after_fork()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._began.set()
        if not self._is_held:
            self._save_and_die()

    def _save_and_die(self) -> None:
        try:
            self._save()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self) -> None:
        reader, writer = socket.socketpair()
        writer.setblocking(False)  # noqa: FBT003
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if previous != -1:  # the script uses it: the handler alone has to do
            signal.set_wakeup_fd(previous)
            reader.close()
            writer.close()
            return
        self._wakeup = (reader, writer)
        threading.Thread(target=self._wait_for_signal, args=(reader,), name="shardprof-sigterm", daemon=True).start()

    def _wait_for_signal(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(64):
                if signal.SIGTERM in received:
                    if self._began.wait(BEGIN_WITHIN_S):
                        time.sleep(SAVE_WITHIN_S)  # most likely the process ends meanwhile
                    # signal.signal() works in the main thread only, and that one is stuck.
                    ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
                    os.kill(os.getpid(), signal.SIGTERM)
