"""NCCL as the built plugin meets it, through interface v5: `python nccl_player.py COLLECTIVES [PAUSE_EVERY]` plays
all-gathers of two channels on one communicator into $SHARDPROF_NCCL_FOLDER, then waits for its end or to be killed."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

from shardprof.engine import NCCL_PLUGIN

COLLECTIVE, KERNEL_CHANNEL, COLLECTIVE_CALL = 1 << 1, 1 << 6, 1 << 9
EVENTS = COLLECTIVE | KERNEL_CHANNEL | COLLECTIVE_CALL
CHANNEL_STOP = 22
GPU_ZERO_NS = 10**15  # what the GPU's timer shows when the host's clock shows `start`


class _Collective(ctypes.Structure):
    _fields_ = (
        ("sequence", ctypes.c_uint64), ("func", ctypes.c_char_p), ("send", ctypes.c_void_p),
        ("receive", ctypes.c_void_p), ("count", ctypes.c_size_t), ("root", ctypes.c_int),
        ("datatype", ctypes.c_char_p), ("channels", ctypes.c_uint8), ("warps", ctypes.c_uint8),
        ("algorithm", ctypes.c_char_p), ("protocol", ctypes.c_char_p), ("group", ctypes.c_void_p),
    )  # fmt: skip


class _Call(ctypes.Structure):
    _fields_ = (
        ("func", ctypes.c_char_p), ("count", ctypes.c_size_t), ("datatype", ctypes.c_char_p),
        ("root", ctypes.c_int), ("stream", ctypes.c_void_p), ("captured", ctypes.c_bool),
    )  # fmt: skip


class _Channel(ctypes.Structure):
    _fields_ = (("channel", ctypes.c_uint8), ("timer", ctypes.c_uint64))


class _Part(ctypes.Union):
    _fields_ = (("collective", _Collective), ("call", _Call), ("channel", _Channel))


class _Event(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint64), ("parent", ctypes.c_void_p), ("rank", ctypes.c_int), ("part", _Part))


_INIT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint64, ctypes.POINTER(ctypes.c_int), ctypes.c_char_p,
    ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p,
)  # fmt: skip
_START = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(_Event))
_STOP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_RECORD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64))


class _Profiler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("init", _INIT), ("start", _START), ("stop", _STOP), ("record", _RECORD),
        ("finalize", _STOP),
    )  # fmt: skip


class Player:
    """One communicator of `ranks` ranks, of which this is number `rank`."""

    def __init__(self, communicator: int, rank: int = 0, ranks: int = 2) -> None:
        self._profiler = _Profiler.in_dll(ctypes.CDLL(str(NCCL_PLUGIN)), "ncclProfiler_v5")
        self._context, self.mask = ctypes.c_void_p(), ctypes.c_int()
        self._profiler.init(self._context, communicator, self.mask, None, 1, ranks, rank, None)
        self._rank = rank
        self._start_ns = time.time_ns()

    def all_gather(self, sequence: int, count: int, *, lasts_ns: int = 1000, ends: bool = True) -> tuple[int, int]:
        """Plays one of two channels, of which the GPU's timer says that it lasted so long; when it began and ended by
        the host's clock."""
        call = self._begin(
            COLLECTIVE_CALL, call=_Call(func=b"AllGather", count=count, datatype=b"ncclBfloat16", stream=0x5000)
        )
        self._profiler.stop(call)
        facts = _Collective(sequence, b"AllGather", 0, 0, count, 0, b"ncclBfloat16", 2, 16, b"RING", b"LL128", 0)
        operation = self._begin(COLLECTIVE, call, collective=facts)
        self._profiler.stop(operation)
        begin_ns = time.time_ns()
        if ends:
            timer = begin_ns - self._start_ns + GPU_ZERO_NS
            channels = [self._begin(KERNEL_CHANNEL, operation, channel=_Channel(c, timer)) for c in (0, 1)]
            while time.time_ns() < begin_ns + lasts_ns:
                pass
            for channel in channels:
                self._profiler.record(channel, CHANNEL_STOP, ctypes.c_uint64(timer + lasts_ns))
                self._profiler.stop(channel)
        return begin_ns, begin_ns + lasts_ns

    def finalize(self) -> None:
        """The communicator is destroyed."""
        self._profiler.finalize(self._context)

    def _begin(self, kind: int, parent: ctypes.c_void_p | None = None, **part: Any) -> ctypes.c_void_p:
        event = _Event(kind, parent, self._rank, _Part(**part))
        handle = ctypes.c_void_p()
        self._profiler.start(self._context, handle, event)
        return handle


def main() -> None:
    player = Player(0xABC)
    for i in range(int(sys.argv[1])):
        player.all_gather(i, 1000 + i % 4)
        if i % 1000 == 999:
            time.sleep(0.05)
    sys.stdout.write("played\n")
    sys.stdout.flush()
    if "--finalize" in sys.argv:
        player.finalize()
    else:
        time.sleep(60)


if __name__ == "__main__":
    main()
