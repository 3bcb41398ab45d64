"""Timelines of operations, as Megatron's and other frameworks' own profilers write them: one file, all ranks of a job.

A bare list of Chrome events: the process is the data-parallel rank, the name of the thread tells the pipeline and the
tensor rank ("PP rank 1, TP rank 0, compute"), the category what is done (forward-compute, backward-send,
grads-reduce-scatter, ...), `args.step` in which step. There are no kernels and no launches.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from shardprof.engine import NOTHING, Int64s, merge
from shardprof.errors import UnreadableTraceError
from shardprof.trace.activities import Activities
from shardprof.trace.classes import COMM_KINDS, named_kind
from shardprof.trace.collectives import Collective, ProcessGroup, as_columns
from shardprof.trace.events import Events
from shardprof.trace.files import Place, opened
from shardprof.trace.importers.kineto import KinetoTrace, MarkedStep
from shardprof.trace.reading import Reading

_THREAD = re.compile(r"PP rank (\d+), TP rank (\d+), ([\w-]+)")
_COMPUTE = re.compile(r".*-compute$|^optimizer$")
_P2P = re.compile(r"(forward|backward)-(send|recv)$")
_MARK = "forward-compute"
_USUAL_MOST_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, order=True)
class _Position:
    """Where a rank is in the job; ranks are numbered in this order, as Megatron numbers them."""

    pipeline: int
    data: int
    tensor: int


@dataclass(frozen=True, slots=True)
class _Operation:
    name: str
    step: int
    begin_ns: int
    end_ns: int


def is_timeline(events: Events) -> bool:
    """Is what was read as a trace of one rank such a timeline?"""
    return _MARK in events.categories


def read_timeline(file: Place, how: Reading) -> list[KinetoTrace]:
    """The ranks of a timeline, each as a trace. UnreadableTraceError where it does not tell them."""
    ranks = _operations(_json(file, how))
    if not ranks:
        raise UnreadableTraceError(
            f"{file} does not name its pipeline ranks", "its threads are to be called 'PP rank 0, TP rank 0, compute'"
        )
    positions = sorted(ranks)
    return [_trace(file, number, positions, ranks[position]) for number, position in enumerate(positions)]


def _json(file: Place, how: Reading) -> list[Any]:
    limit = how.max_text_bytes or _USUAL_MOST_BYTES
    try:
        with opened(file) as descriptor, open(descriptor, "rb", closefd=False) as source:
            is_packed = source.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=source) if is_packed else nullcontext(source) as text:
                data = text.read(limit + 1)
        events = json.loads(data, parse_float=Decimal) if len(data) <= limit else None
    except (OSError, EOFError, ValueError, RecursionError) as error:
        hint = "it has to be plain or gzip, and whole"
        raise UnreadableTraceError(f"{file} is not readable as a timeline: {error}", hint) from error
    if events is None:
        raise UnreadableTraceError(f"{file} is longer than {limit:,} bytes", "allow more: --max-size 2G")
    return events if isinstance(events, list) else []


def _operations(events: Sequence[Any]) -> dict[_Position, list[_Operation]]:
    threads = dict(filter(None, map(_thread, events)))
    data_ranks = {pid: number for number, pid in enumerate(sorted({pid for pid, _ in threads}, key=str))}
    ranks: defaultdict[_Position, list[_Operation]] = defaultdict(list)
    for event in events:
        operation = _operation(event)
        thread = (event.get("pid"), event.get("tid")) if operation else None
        if operation and thread in threads:
            pipeline, tensor = threads[thread]
            ranks[_Position(pipeline, data_ranks[thread[0]], tensor)].append(operation)
    return {position: sorted(done, key=lambda one: (one.begin_ns, one.end_ns)) for position, done in ranks.items()}


def _thread(event: Any) -> tuple[tuple[Any, Any], tuple[int, int]] | None:
    """A thread, and the pipeline and the tensor rank that its name tells."""
    try:
        match = _THREAD.search(event["args"]["name"]) if event["name"] == "thread_name" else None
        return ((event["pid"], event["tid"]), (int(match[1]), int(match[2]))) if match else None
    except (TypeError, KeyError, ValueError):
        return None


def _operation(event: Any) -> _Operation | None:
    """What an event tells; None where it is none, or damaged."""
    try:
        begin_ns, duration_ns, step = int(event["ts"] * 1000), int(event["dur"] * 1000), event["args"]["step"]
        is_one = event["ph"] == "X" and duration_ns >= 0 and isinstance(step, int)
        return _Operation(str(event["name"]), step, begin_ns, begin_ns + duration_ns) if is_one else None
    except (TypeError, KeyError, ValueError, OverflowError):
        return None


def _trace(file: Place, number: int, positions: Sequence[_Position], done: Sequence[_Operation]) -> KinetoTrace:
    position = positions[number]
    computing = [one for one in done if _COMPUTE.match(one.name)]
    collectives = as_columns(list(_collectives(number, positions, done)))
    present = [COMM_KINDS[kind] for kind in np.unique(collectives.kind).tolist()]
    activities = Activities(
        device="cuda",
        compute=merge(_intervals(computing)),
        work_begin_ns=np.array([one.begin_ns for one in computing], dtype=np.int64),
        comm={kind: collectives.intervals(kind) for kind in present},
        memcpy=NOTHING,
        memset=NOTHING,
        data_loading=NOTHING,
        late_launches=NOTHING,
        launches=np.full(len(done), -1, dtype=np.int64),
        collectives=collectives,
    )
    role = f"DP {position.data}, PP {position.pipeline}" + (f", TP {position.tensor}" if position.tensor else "")
    return KinetoTrace(
        path=file,
        rank=number,
        role=role,
        metadata={"distributedInfo": {"rank": number, "world_size": len(positions)}},
        base_ns=0,
        events=_events(done),
        main_thread=0,
        marked_steps=tuple(_steps(done)),
        activities=activities,
        quality=(),
    )


def _steps(done: Sequence[_Operation]) -> Iterable[MarkedStep]:
    """Each from its first operation to the next one's; the last one to its last operation's end."""
    begins = {one.step: one.begin_ns for one in reversed(done)}
    ordered = sorted(begins, key=lambda step: begins[step])
    last_ns = max(one.end_ns for one in done)
    for step, following in zip(ordered, [*ordered[1:], None], strict=True):
        end_ns = last_ns if following is None else begins[following]
        yield MarkedStep(number=step, begin_ns=begins[step], end_ns=end_ns)


def _collectives(number: int, positions: Sequence[_Position], done: Sequence[_Operation]) -> Iterable[Collective]:
    """A send and its receive run when both are ready: until then the rank waits, from its operation before on."""
    free_ns = done[0].begin_ns
    for one in done:
        direction = _P2P.match(one.name)
        kind = "p2p" if direction else named_kind(one.name.replace("-", "_"))
        if kind is not None and not _COMPUTE.match(one.name):
            peers = _peers(number, positions, direction) if direction else None
            group = _group(number, positions, one.name) if peers is None else _between(positions, *peers)
            begin_ns = min(one.begin_ns, free_ns) if direction else one.begin_ns
            source, destination = peers or (None, None)
            yield Collective(
                kind=kind,
                launched_ns=begin_ns,
                begin_ns=begin_ns,
                end_ns=one.end_ns,
                payload_bytes=None,
                wire_bytes=None,
                group=group,
                source=source,
                destination=destination,
            )
        if not direction:
            free_ns = max(free_ns, one.end_ns)


def _peers(number: int, positions: Sequence[_Position], direction: re.Match[str]) -> tuple[int, int]:
    """Who sends to whom: activations go down the pipeline, gradients up."""
    own = positions[number]
    stages = 1 + max(position.pipeline for position in positions)
    is_forward, sends = direction[1] == "forward", direction[2] == "send"
    stage = (own.pipeline + (1 if is_forward == sends else -1)) % stages
    peer = _Position(stage, own.data, own.tensor)
    other = positions.index(peer) if peer in positions else number
    return (number, other) if sends else (other, number)


def _between(positions: Sequence[_Position], source: int, destination: int) -> ProcessGroup:
    data = positions[source].data
    return ProcessGroup(name=f"pp{data}", description="pipeline", size=2, ranks=tuple(sorted((source, destination))))


def _group(number: int, positions: Sequence[_Position], name: str) -> ProcessGroup:
    """Gradients and parameters are shared by the ranks of one stage; those of the embedding by the first and last."""
    own = positions[number]
    if name.startswith("embedding"):
        ends = (0, max(position.pipeline for position in positions))
        ranks = [
            i for i, p in enumerate(positions) if p.pipeline in ends and (p.data, p.tensor) == (own.data, own.tensor)
        ]
        return ProcessGroup(name=f"embedding{own.data}", description="embedding", size=len(ranks), ranks=tuple(ranks))
    ranks = [i for i, p in enumerate(positions) if (p.pipeline, p.tensor) == (own.pipeline, own.tensor)]
    return ProcessGroup(name=f"dp{own.pipeline}", description="data parallel", size=len(ranks), ranks=tuple(ranks))


def _intervals(done: Sequence[_Operation]) -> Int64s:
    return np.array([(one.begin_ns, one.end_ns) for one in done], dtype=np.int64).reshape(-1, 2)


def _events(done: Sequence[_Operation]) -> Events:
    names = tuple(dict.fromkeys(one.name for one in done))
    index = {name: i for i, name in enumerate(names)}
    name = np.array([index[one.name] for one in done], dtype=np.uint32)
    nothing = np.full(len(done), np.iinfo(np.int64).min)
    none = np.empty(0, dtype=np.uint32)
    spans = _intervals(done)
    return Events(
        begin_ns=spans[:, 0],
        end_ns=spans[:, 1],
        name=name,
        category=name,
        thread=np.zeros(len(done), dtype=np.uint32),
        correlation=nothing,
        external_id=nothing,
        stream=nothing,
        shape=np.zeros(len(done), dtype=np.uint32),
        names=names,
        categories=names,
        threads=("operations",),
        detail_row=none,
        detail=none,
        detail_sequence=np.empty(0, dtype=np.int64),
        details=(),
    )
