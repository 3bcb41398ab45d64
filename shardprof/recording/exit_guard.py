"""Keeps the captured steps when a script ends its rank by `os._exit`, which runs no handler of anybody's.

What is kept is exported first. The profiler stops when the GPU is done, which behind a dead peer's collective is never,
and a thread that waits for it may hold the interpreter's lock: so a timer of the C library, which needs no lock, ends
the process with its own exit code should that take too long.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

SAVE_WITHIN_S = 15
SIGEV_THREAD = 2


_os: Any = os  # a function of which is replaced


class ExitGuard:
    """Between `install` and `remove`: on `os._exit` in this process's main thread call `save` first."""

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save
        self._exit: Callable[[int], NoReturn] = os._exit
        self._pid = 0

    def install(self) -> None:
        """Take `os._exit` over."""
        self._pid = os.getpid()
        self._exit = _os._exit
        _os._exit = self._save_and_exit

    def remove(self) -> None:
        """Give it back; where somebody else has replaced it since, ours does nothing but pass it on."""
        self._pid = 0
        if _os._exit == self._save_and_exit:
            _os._exit = self._exit

    def _save_and_exit(self, status: int) -> NoReturn:
        if self._pid == os.getpid() and threading.current_thread() is threading.main_thread():  # not in a forked child
            self._pid = 0
            with contextlib.suppress(BaseException):
                _exit_after(SAVE_WITHIN_S, status)
                self._save()
        self._exit(status)


class _SignalEvent(ctypes.Structure):
    """`struct sigevent`, for a notification by a function in a thread of its own."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal_number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_byte * 32),
    )


class _Times(ctypes.Structure):
    """`struct itimerspec`: the interval, which stays 0, and the time until then."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns"))


def _exit_after(seconds: int, status: int) -> None:
    """Arm a timer whose notification is the C library's `_exit(status)` itself. OSError where there is none."""
    libc = _with_timers()
    event = _SignalEvent(value=status & 0xFF, notify=SIGEV_THREAD, function=ctypes.cast(libc._exit, ctypes.c_void_p))
    timer = ctypes.c_void_p()
    if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")
    if libc.timer_settime(timer, 0, ctypes.byref(_Times(first_s=seconds)), None) != 0:
        raise OSError(ctypes.get_errno(), "timer_settime")


def _with_timers() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    return libc if hasattr(libc, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)  # glibc before 2.34
