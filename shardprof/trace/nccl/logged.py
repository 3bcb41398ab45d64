"""A rank's own NCCL log: what its communicators go over, and its calls where nothing else tells of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shardprof.errors import ShardprofError
from shardprof.trace.importers.nccl_log import operations, read_nccl_logs
from shardprof.trace.nccl.log_record import Link, LogCommunicator, NcclLog
from shardprof.trace.nccl.operations import Communicator, Operations
from shardprof.trace.schema import RankRecord


def read_log(folder: Path, record: RankRecord) -> NcclLog | None:
    """The log of a rank's process in its node's `folder`; None where there is none that tells anything."""
    files = sorted(map(str, folder.glob(f"nccl.*.{record.pid}.log")))
    try:
        return read_nccl_logs(files) if files else None
    except (OSError, ShardprofError):
        return None


def calls_of(log: NcclLog) -> Operations | None:
    """The calls that a rank's log tells of, with what they go over; None where it tells of none."""
    process = next((i for i, each in enumerate(log.processes) if each.pid is not None), 0)
    told = operations(log, process)
    return replace(told, communicators=with_transports(told.communicators, log)) if len(told) else None


def with_transports(communicators: Sequence[Communicator], log: NcclLog) -> tuple[Communicator, ...]:
    """The communicators, with what the log says that they go over: by hash, or by size and rank where that is
    unmistakable (NCCL writes no hash of those that were split off)."""
    return tuple(replace(each, transport=_transport(each, log.communicators)) for each in communicators)


def _transport(communicator: Communicator, logged: Sequence[LogCommunicator]) -> str | None:
    same = [each for each in logged if communicator.hash is not None and each.id == communicator.hash]
    alike = [each for each in logged if (each.ranks, each.rank) == (communicator.ranks, communicator.rank)]
    found = same[-1:] or (alike if len(alike) == 1 else [])
    used = Counter[str]()
    for each in found:
        for link, channels in each.topology.links.items():
            used[_name(link)] += channels
    return " and ".join(name for name, _ in used.most_common()) or None


def _name(link: Link) -> str:
    parts = (link.transport, link.kind, "GDRDMA" if link.is_gdr else "")
    return "/".join(part for part in parts if part)
