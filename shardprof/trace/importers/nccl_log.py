"""NCCL's debug log as data: of NCCL 2.4 to 2.30 and RCCL, in a file of one rank or in the output of a whole job.

A log may have any size: it is read line by line, and what is kept of it has limits. What is beyond them is counted.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from shardprof.engine import Int64s
from shardprof.errors import ShardprofError
from shardprof.trace.nccl.log_lines import Bytes
from shardprof.trace.nccl.log_reader import P2P, LogReader
from shardprof.trace.nccl.log_record import Calls, LogCommunicator, NcclLog
from shardprof.trace.nccl.operations import Communicator, Operation, Operations, as_columns

STDIN = "-"


def read_nccl_logs(paths: Sequence[str]) -> NcclLog:
    """What logs tell together; "-" is the standard input, what ends in .gz is unpacked. Raises OSError for a file that
    cannot be opened, ShardprofError where nothing in them is of NCCL."""
    reader = LogReader()
    for path in paths:
        with _opened(path) as source:
            reader.read(path, source)
    log = reader.done()
    if not (log.lines or log.nccl or log.warnings):
        raise ShardprofError(
            f"no line of NCCL in {', '.join(paths)}",
            "start the job with NCCL_DEBUG=INFO and give what it prints, or a file that NCCL_DEBUG_FILE names",
        )
    return log


def operations(log: NcclLog, process: int) -> Operations:
    """The calls of one process, in the order of the log. They have a time where the log has one with its zone; the
    sequence counts by function and communicator from 0, since opCount does not."""
    own = [index for index, communicator in enumerate(log.communicators) if communicator.process == process]
    calls = log.calls
    of_process = np.isin(_communicators_of(calls), own)
    pairs = calls.kinds[of_process] * len(calls.chosen) + calls.choices[of_process]
    distinct, rows = np.unique(pairs, return_inverse=True)
    places = {index: place for place, index in enumerate(own)}
    samples = [_operation(calls, places, *divmod(int(pair), len(calls.chosen))) for pair in distinct]
    table = as_columns(samples, [_communicator(log.communicators[index]) for index in own]).where(rows)
    return replace(table, sequence=_counted(table), enqueued_ns=calls.times_ns[of_process])


def _communicators_of(calls: Calls) -> Int64s:
    return np.array([call.communicator for call in calls.calls], dtype=np.int64)[calls.kinds]


def _operation(calls: Calls, places: dict[int, int], kind: int, chosen: int) -> Operation:
    call, choice = calls.calls[kind], calls.chosen[chosen]
    return Operation(
        communicator=places[call.communicator],
        function=call.function,
        count=call.count,
        datatype=call.datatype,
        algorithm=choice.algorithm,
        protocol=choice.protocol,
        channels=choice.channels,
        peer=call.root if call.function in P2P else None,
    )


def _communicator(told: LogCommunicator) -> Communicator:
    return Communicator(hash=told.id, rank=told.rank, ranks=told.ranks, nodes=told.nodes)


def _counted(table: Operations) -> Int64s:
    """How many rows of the same function and communicator come before each."""
    keys = table.communicator * len(table.words) + table.function
    order = np.argsort(keys, kind="stable")
    _, first, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    counted = np.empty(len(table), dtype=np.int64)
    counted[order] = np.arange(len(table)) - np.repeat(first, sizes)
    return counted


@contextmanager
def _opened(path: str) -> Iterator[Bytes]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as source:
        yield source
