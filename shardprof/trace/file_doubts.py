"""What about a trace file as a whole is doubtful: what it lost, and that it is of one process with one GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from shardprof.engine import TraceFile
from shardprof.trace.activities import Activities
from shardprof.trace.events import Events, Mask
from shardprof.trace.groups import distributed_info
from shardprof.trace.launches import DEVICE_CATEGORIES, LAUNCH_CATEGORIES
from shardprof.trace.quality import Quality


def damage_doubts(columns: TraceFile, name: str) -> list[Quality]:
    """What could not be read of the file of that name."""
    doubts = []
    if columns.truncated:
        message = f"{name} ends before the trace does; what was complete is used"
        doubts.append(Quality(code="truncated_trace", message=message))
    if columns.lost_events:
        message = f"{name} holds events that cannot be read, the first {columns.first_lost_byte:,} bytes into its text"
        doubts.append(Quality(code="lost_events", message=message, count=columns.lost_events))
    return doubts


def content_doubts(events: Events, metadata: dict[str, Any], activities: Activities | None, name: str) -> list[Quality]:
    """What was read of it but is not what a rank's trace holds."""
    doubts = []
    if (count := _processes(events, events.in_categories("cpu_op", *LAUNCH_CATEGORIES))) > 1:
        message = f"{name} holds {count} processes, which are taken together as if they were one"
        doubts.append(Quality(code="several_processes", message=message))
    if activities is None:
        return doubts
    if activities.device != "cpu":
        doubts += _device_doubts(events, activities, name)
    elif _is_gpu_job(events, metadata):
        message = f"{name} is of a job on GPUs and holds no GPU activities: what is shown is the CPU's side only"
        doubts.append(Quality(code="no_device_activities", message=message))
    return doubts


def _device_doubts(events: Events, activities: Activities, name: str) -> list[Quality]:
    """Several devices where there should be one, or work that nothing launched."""
    doubts = []
    if (devices := _processes(events, events.in_categories(*DEVICE_CATEGORIES))) > 1:
        message = f"{name} holds {devices} GPUs, which are taken together as if they were one"
        doubts.append(Quality(code="several_devices", message=message))
    if unlaunched := int((activities.launches < 0).sum()):
        message = "GPU activities whose launch the trace does not hold: they belong to no step's calls"
        doubts.append(Quality(code="launches_unknown", message=message, count=unlaunched))
    return doubts


def _processes(events: Events, rows: Mask) -> int:
    """How many different "pid" some events have; that of a GPU's activities is the device."""
    return len({events.threads[thread].split("/")[0] for thread in np.unique(events.thread[rows]).tolist()})


def _is_gpu_job(events: Events, metadata: dict[str, Any]) -> bool:
    has_nccl = "nccl" in str(distributed_info(metadata).get("backend", ""))
    return has_nccl or bool(metadata.get("deviceProperties")) or bool(events.in_categories(*LAUNCH_CATEGORIES).any())
