"""How busy a GPU's SMs, tensor cores, memory and links are by its own monitors (GPM: Hopper and newer)."""

from __future__ import annotations

import math
import time
from typing import Any

import pynvml

INTERVAL_NS = 190_000_000  # of samples 100 ms apart every second one: five a second at most
MIB = 1 << 20
METRICS = {
    1: ("graphics_active_percent", 1),
    2: ("sm_active_percent", 1),
    3: ("sm_occupancy_percent", 1),
    5: ("tensor_active_percent", 1),
    7: ("hmma_active_percent", 1),
    10: ("dram_bandwidth_percent", 1),
    11: ("fp64_active_percent", 1),
    12: ("fp32_active_percent", 1),
    13: ("fp16_active_percent", 1),
    20: ("pcie_tx_bytes_per_s", MIB),
    21: ("pcie_rx_bytes_per_s", MIB),
    60: ("nvlink_rx_bytes_per_s", MIB),
    61: ("nvlink_tx_bytes_per_s", MIB),
}
"""What is asked, by NVML's number: its name here, and what a unit of NVML's is worth."""


class Gpm:
    """The monitors of one GPU. Raises NVMLError where it has none, and from `values` where they do not answer."""

    def __init__(self, gpu: Any) -> None:
        if not pynvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._gpu = gpu
        self._samples: list[Any] = []  # the one before, and room for the next
        self._request = pynvml.c_nvmlGpmMetricsGet_t(
            version=pynvml.NVML_GPM_METRICS_GET_VERSION, numMetrics=len(METRICS)
        )
        for place, metric in enumerate(METRICS):
            self._request.metrics[place].metricId = metric
        try:
            for _ in range(2):
                self._samples.append(pynvml.nvmlGpmSampleAlloc())
            self._take()
        except BaseException:
            self.close()
            raise

    def values(self) -> dict[str, float]:
        """Means since the last values; empty where those are too fresh."""
        if time.monotonic_ns() - self._taken_ns < INTERVAL_NS:
            return {}
        before, after = self._take()
        self._request.sample1, self._request.sample2 = before, after
        pynvml.nvmlGpmMetricsGet(self._request)
        values = {}
        for (name, worth), metric in zip(METRICS.values(), self._request.metrics, strict=False):
            if metric.nvmlReturn == pynvml.NVML_SUCCESS and math.isfinite(metric.value):
                values[name] = metric.value * worth
        return values

    def close(self) -> None:
        """Give the samples back."""
        while self._samples:
            pynvml.nvmlGpmSampleFree(self._samples.pop())

    def _take(self) -> tuple[Any, Any]:
        """A new sample; it after the one before it."""
        before, after = self._samples
        pynvml.nvmlGpmSampleGet(self._gpu, after)
        self._taken_ns = time.monotonic_ns()
        self._samples = [after, before]
        return before, after
