"""What NCCL told of one process, by whichever way it came: through the plugin, in its log, through other tools."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shardprof.engine import Int64s
from shardprof.errors import UnreadableTraceError
from shardprof.trace.importers import nccl_plugin, nccl_records
from shardprof.trace.nccl.logged import calls_of, read_log, with_transports
from shardprof.trace.nccl.naming import named
from shardprof.trace.nccl.operations import Operations
from shardprof.trace.rank_of_file import rank_of_file
from shardprof.trace.schema import FLIGHT_FILE, RankRecord, RunFolder

PLUGIN, LOG = "plugin", "log"
_NONE: Int64s = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclRecords:
    """`source` is "plugin", "log" or what another tool is called. `in_flight` are the rows of `operations` that had
    begun and not ended when the process was last heard of; `lost` counts what no record holds whole, by what became of
    it; `timer_residual_ns` is the median of what remains between the GPU's timer and the host's clock."""

    source: str
    operations: Operations
    in_flight: Int64s
    lost: dict[str, int]
    timer_residual_ns: int | None = None


def read_process(folder: Path, record: RankRecord) -> NcclRecords | None:
    """What a rank's process left in its node's `folder`, else in a dump of torch's flight recorder; None where it left
    nothing."""
    told = nccl_plugin.read(folder, str(record.pid))
    log = read_log(folder, record)
    if told is not None and len(told.operations):
        operations, in_flight, lost = told.operations, told.in_flight, told.lost
        known = with_transports(operations.communicators, log) if log else operations.communicators
        source = PLUGIN
    elif log and (of_log := calls_of(log)):
        operations, in_flight, lost = of_log, _NONE, {}
        known, source = operations.communicators, LOG
    else:
        return _flight(RunFolder(folder.parents[1]).rank(record.rank) / FLIGHT_FILE)
    communicators = named(known, record.rank, record.process_groups)
    return NcclRecords(
        source=source,
        operations=replace(operations, communicators=communicators),
        in_flight=in_flight,
        lost=lost,
        timer_residual_ns=told.timer_residual_ns if told else None,
    )


def _flight(file: Path) -> NcclRecords | None:
    """The last calls of a rank that stood still when its watchdog looked."""
    try:
        told = read_file(file, None)
    except (OSError, UnreadableTraceError):
        return None
    return told[1] if told and len(told[1].operations) else None


def read_file(file: Path, rank_regex: re.Pattern[str] | None) -> tuple[int | None, NcclRecords] | None:
    """What another tool wrote down of a process, and its rank as far as it or its name tells; None where that is
    nothing. Raises OSError and UnreadableTraceError."""
    told = nccl_records.read_named(file)
    if told is None:
        return None
    name, operations = told
    largest = max(operations.communicators, key=lambda each: each.ranks or 0, default=None)
    rank = largest.rank if largest and largest.rank is not None else rank_of_file({}, file, rank_regex)
    records = NcclRecords(source=name, operations=operations, in_flight=_NONE, lost={})
    return rank, records


def durations_ns(operations: Operations) -> Int64s:
    """How long each ran; -1 where that is not known."""
    known = (operations.begin_ns >= 0) & (operations.end_ns >= operations.begin_ns)
    return np.where(known, operations.end_ns - operations.begin_ns, -1)
