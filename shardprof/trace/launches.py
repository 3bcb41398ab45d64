"""Which call on the CPU launched what ran on the GPU: by the correlation id that both carry."""

from __future__ import annotations

import numpy as np

from shardprof.engine import ABSENT, Int64s
from shardprof.trace.events import Events

DEVICE_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCH_CATEGORIES = ("cuda_runtime", "cuda_driver")


def launches_of(events: Events, device_rows: Int64s) -> Int64s:
    """The row of the CPU call that launched each device row; -1 where the trace does not hold it."""
    calls = np.flatnonzero(events.in_categories(*LAUNCH_CATEGORIES) & (events.correlation != ABSENT))
    launches = np.full(len(device_rows), -1, dtype=np.int64)
    if not len(calls):
        return launches
    keys = events.correlation[calls]
    if (keys[1:] < keys[:-1]).any():  # most traces have them in order
        order = np.argsort(keys, kind="stable")
        calls, keys = calls[order], keys[order]
    position = np.minimum(np.searchsorted(keys, events.correlation[device_rows]), len(keys) - 1)
    found = keys[position] == events.correlation[device_rows]
    launches[found] = calls[position[found]]
    return launches
