"""One NVIDIA GPU: what it is, and its counters at a moment. What it does not support is found out once, at opening."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pynvml

from shardprof.recording.counters._fields import (
    FIELDS,
    RARE_FIELDS,
    active_links,
    field_values,
    nvlink_fields,
    supported,
)
from shardprof.recording.counters._gpm import Gpm
from shardprof.trace.schema import Device

RARELY_S = 5.0
Read = Callable[[], dict[str, float]]

CALLS: tuple[Callable[[Any], dict[str, float]], ...] = (
    lambda gpu: _utilization(pynvml.nvmlDeviceGetUtilizationRates(gpu)),
    lambda gpu: {"memory_used_bytes": pynvml.nvmlDeviceGetMemoryInfo(gpu, pynvml.nvmlMemory_v2).used},
    lambda gpu: {"memory_used_bytes": pynvml.nvmlDeviceGetMemoryInfo(gpu).used},  # with what the driver reserves
    lambda gpu: {"sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)},
    lambda gpu: {"memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)},
    lambda gpu: {"temperature_c": pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)},
    lambda gpu: {"throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)},
    lambda gpu: {"throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)},  # older drivers
    lambda gpu: {"power_w": pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000},  # a mean on many parts: the field is better
)
"""What has no field. Of calls with the same name the first one that works is made, and none where a field has it."""

FACTS: dict[str, Callable[[Any], Any]] = {
    "pci_bus_id": lambda gpu: pynvml.nvmlDeviceGetPciInfo(gpu).busId,
    "memory_bytes": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).total,
    "power_limit_w": lambda gpu: pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    "max_sm_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "driver_version": lambda _gpu: pynvml.nvmlSystemGetDriverVersion(),
    "nvlinks": lambda gpu: len(active_links(gpu)),
    "mig": lambda gpu: bool(pynvml.nvmlDeviceGetMigMode(gpu)[0]),
}

THROTTLE_REASONS = {
    0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost", 0x20: "sw_thermal", 0x40: "hw_thermal",
    0x80: "power_brake",
}  # fmt: skip
"""By NVML's bit. Those left out do not slow down what is asked for: idle, clocks that were set."""


class Gpu:
    """The GPU of one NVML index. Raises NVMLError where it cannot be had."""

    def __init__(self, index: int) -> None:
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.device = Device(
            subject=f"gpu {index}",
            name=pynvml.nvmlDeviceGetName(self.handle),
            uuid=pynvml.nvmlDeviceGetUUID(self.handle),
            facts=_facts(self.handle),
        )
        self._throttled: set[str] = set()
        self._gpm = _gpm(self.handle)
        self._reads = self._supported_reads()

    def values(self) -> dict[str, float]:
        """The counters now, less those that fail this time. Raises NVMLError where the GPU is lost: all of them do."""
        values: dict[str, float] = {}
        failure = None
        for read in self._reads:
            try:
                values |= read()
            except pynvml.NVMLError_GpuIsLost:
                raise
            except pynvml.NVMLError as error:
                failure = error
        if failure is not None and not values:
            raise failure
        return values

    def throttle_events(self, values: dict[str, float]) -> list[str]:
        """What has begun or ended to slow the GPU down since the last values."""
        if "throttle_reasons" not in values:
            return []
        reasons = int(values["throttle_reasons"])
        before, now = self._throttled, {name for bit, name in THROTTLE_REASONS.items() if reasons & bit}
        self._throttled = now
        begun, ended = sorted(now - before), sorted(before - now)
        return [f"throttled: {name}" for name in begun] + [f"no longer throttled: {name}" for name in ended]

    def close(self) -> None:
        """Give back what NVML holds for us."""
        with suppress(pynvml.NVMLError):
            if self._gpm is not None:
                self._gpm.close()

    def _supported_reads(self) -> list[Read]:
        often = [*supported(self.handle, FIELDS), *nvlink_fields(self.handle)]
        rarely = supported(self.handle, RARE_FIELDS)
        reads: list[Read] = [] if self._gpm is None else [self._gpm.values]
        if often:
            reads.append(partial(field_values, self.handle, often))
        if rarely:
            reads.append(_Rarely(partial(field_values, self.handle, rarely)))
        known = {field.name for field in often}
        for call in CALLS:
            with suppress(pynvml.NVMLError, AttributeError):  # an older binding lacks the function
                names = call(self.handle).keys()
                if not names <= known:
                    known |= names
                    reads.append(partial(call, self.handle))
        return reads


class _Rarely:
    """Reads what hardly changes, now and then; else it is empty."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._due_s = -math.inf

    def __call__(self) -> dict[str, float]:
        if time.monotonic() < self._due_s:
            return {}
        self._due_s = time.monotonic() + RARELY_S
        return self._read()


def _gpm(gpu: Any) -> Gpm | None:
    with suppress(pynvml.NVMLError, AttributeError):
        return Gpm(gpu)
    return None


def _facts(gpu: Any) -> dict[str, Any]:
    facts = {}
    for name, ask in FACTS.items():
        with suppress(pynvml.NVMLError, AttributeError):
            facts[name] = ask(gpu)
    return facts


def _utilization(rates: Any) -> dict[str, float]:
    return {"utilization_percent": rates.gpu, "memory_utilization_percent": rates.memory}
