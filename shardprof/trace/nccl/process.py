"""What NCCL told of one process of a recorded run, by whichever way it came: through the plugin, else in its log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.importers import nccl_plugin
from shardprof.trace.nccl.naming import named
from shardprof.trace.nccl.operations import Operations
from shardprof.trace.schema import RankRecord

PLUGIN = "plugin"


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclRecords:
    """`source` is "plugin" or "log". `in_flight` are the rows of `operations` that had begun and not ended when the
    process was last heard of; `lost` counts what no record holds whole, by what became of it."""

    source: str
    operations: Operations
    in_flight: Int64s
    lost: dict[str, int]


def read_process(folder: Path, record: RankRecord) -> NcclRecords | None:
    """What a rank's process left in its node's `folder`; None where it left nothing."""
    if not folder.is_dir():
        return None
    records = nccl_plugin.read(folder, str(record.pid))
    if records is None or not len(records.operations):
        return None
    communicators = named(records.operations.communicators, record.rank, record.process_groups)
    return NcclRecords(
        source=PLUGIN,
        operations=replace(records.operations, communicators=communicators),
        in_flight=records.in_flight,
        lost=records.lost,
    )


def durations_ns(operations: Operations) -> Int64s:
    """How long each ran; -1 where that is not known."""
    known = (operations.begin_ns >= 0) & (operations.end_ns >= operations.begin_ns)
    return np.where(known, operations.end_ns - operations.begin_ns, -1)
