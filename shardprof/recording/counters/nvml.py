"""Every NVIDIA GPU of the node as its driver counts it (NVML), and what happens to it: throttling, Xids, its loss."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.counters import Sample, Values
from shardprof.trace.schema import Device

try:
    import pynvml
except ImportError:
    pynvml = None
else:
    from shardprof.recording.counters._gpu import Gpu

MOST_XIDS = 100

Events = dict[str, list[str]]


def open_source(ranks: NodeRanks) -> NvmlSource | None:
    """None without a driver, its library or its Python binding. RuntimeError where they are there and do not work."""
    if pynvml is None:
        return None
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        raise RuntimeError(f"NVML does not start: {error}; reload or update the NVIDIA driver") from error
    try:
        source = NvmlSource()
    except BaseException:
        _shut_down()
        raise
    if source.is_without_gpus:
        source.close()
        return None
    return source


class NvmlSource:
    """Samples GPUs by their NVML index. A GPU that is lost is left out from then on."""

    name = "nvml"
    interval_ns = 100_000_000

    def __init__(self) -> None:
        self._gpus: list[Gpu] = []
        self._events: Events = {}
        """What the next sample tells."""
        self._failure = ""
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                self._gpus.append(Gpu(index))
            except pynvml.NVMLError as error:
                self._failure = str(error)
                self._events[f"gpu {index}"] = [f"gpu cannot be sampled: {error}"]
        self.is_without_gpus = not self._gpus and not self._failure
        self.devices: tuple[Device, ...] = tuple(gpu.device for gpu in self._gpus)
        self._xids = _Xids(self._gpus)

    def sample(self) -> Sample:
        """The counters now, none of a GPU that has just been lost, and what has happened.

        RuntimeError once no GPU is left and that has been told.
        """
        if not self._gpus and not self._events:
            self.close()
            raise RuntimeError(f"no GPU answers: {self._failure}")
        values: Values = {gpu.device.subject: {} for gpu in self._gpus}
        for gpu in list(self._gpus):
            subject = gpu.device.subject
            try:
                values[subject] |= gpu.values()
                self._tell(subject, gpu.throttle_events(values[subject]))
            except pynvml.NVMLError as error:
                self._lose(gpu, error)
        for subject, xid in self._xids.read():
            self._tell(subject, [f"xid {xid}"])
        events, self._events = self._events, {}
        return Sample(values, {subject: tuple(happened) for subject, happened in events.items()})

    def close(self) -> None:
        """Give back what NVML holds for us."""
        self._xids.close()
        for gpu in self._gpus:
            gpu.close()
        _shut_down()

    def _lose(self, gpu: Gpu, error: Exception) -> None:
        self._failure = str(error)
        self._gpus.remove(gpu)
        self._tell(gpu.device.subject, ["gpu lost"])
        gpu.close()

    def _tell(self, subject: str, happened: list[str]) -> None:
        if happened:
            self._events.setdefault(subject, []).extend(happened)


class _Xids:
    """The errors that the driver reports by number, where it does."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self._subjects: dict[int | None, str] = {}
        self._events: Any = None
        with suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()
        for gpu in gpus if self._events is not None else []:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlDeviceRegisterEvents(gpu.handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
                self._subjects[_address(gpu.handle)] = gpu.device.subject

    def read(self) -> list[tuple[str, int]]:
        """Those since the last call, with the GPU; it does not wait for one."""
        found: list[tuple[str, int]] = []
        with suppress(pynvml.NVMLError):  # a time-out: there are no more
            while self._subjects and len(found) < MOST_XIDS:
                event = pynvml.nvmlEventSetWait(self._events, 0)
                found.append((self._subjects.get(_address(event.device), "node"), event.eventData))
        return found

    def close(self) -> None:
        with suppress(pynvml.NVMLError):
            if self._events is not None:
                pynvml.nvmlEventSetFree(self._events)


def _address(gpu: Any) -> int | None:
    return ctypes.cast(gpu, ctypes.c_void_p).value


def _shut_down() -> None:
    with suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()
