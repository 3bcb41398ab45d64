"""What NCCL itself told of the whole training: calls, times and bandwidth by kind, group and size; what never ended.

Unlike the captured steps these are all calls. How long a call takes on one rank holds its wait for the others; the one
that comes last waits least, so that the shortest time of a call on any rank is nearest to its transfer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shardprof.analysis.result import Nccl, NcclCalls, Unfinished
from shardprof.engine import Int64s
from shardprof.trace.classes import COMM_KINDS, wire_factor
from shardprof.trace.collectives import UNKNOWN
from shardprof.trace.events import Mask
from shardprof.trace.nccl.operations import Communicator, Operations, alike
from shardprof.trace.nccl.process import NcclRecords, durations_ns
from shardprof.trace.schema import ProcessGroup

_MOST_KEPT = 4096
_MOST_SHARED = 512
_MOST_UNFINISHED = 20
_ONE_KERNEL_NS = 2000


@dataclass(frozen=True, slots=True)
class _Key:
    """What calls have in common: communicator (its hash, the same on all its ranks), function, size and way."""

    communicator: int
    function: str
    kind: str
    payload_bytes: int
    algorithm: str
    protocol: str
    channels: int


@dataclass(slots=True)
class _Calls:
    """Of one key: how many on the rank that has most, some of their times on each rank, and the shortest of those times
    on any rank, by sequence number."""

    calls: int = 0
    times_ns: list[Int64s] = field(default_factory=list)
    shortest_ns: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    ranks: int | None
    transports: Counter[str] = field(default_factory=Counter)
    members: dict[int, int] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)


class NcclTable:
    """Takes what NCCL told on the ranks, one after the other."""

    def __init__(self) -> None:
        self._calls: dict[_Key, _Calls] = defaultdict(_Calls)
        self._groups: dict[int, _Group] = {}
        self._unfinished: list[tuple[int, int, int, str, int]] = []
        self._lost = Counter[str]()
        self._sources = set[str]()
        self._residuals_ns: list[int] = []

    def add_rank(self, rank: int, records: NcclRecords, groups: Mapping[int, str]) -> None:
        """Take a rank's; `groups` are the process groups of those of its communicators whose kernels were captured."""
        operations = records.operations
        self._sources.add(records.source)
        self._lost.update(records.lost)
        if records.timer_residual_ns is not None:
            self._residuals_ns.append(records.timer_residual_ns)
        for place, communicator in enumerate(operations.communicators):
            self._join(rank, _identity(communicator, place), communicator, groups.get(place))
        times_ns = durations_ns(operations)
        alone = _ran_alone(operations)
        for key, rows in _by_key(operations):
            self._take(key, operations.sequence[rows], times_ns[rows], alone[rows])
        self._note_unfinished(rank, records)

    def result(self, process_groups: Sequence[ProcessGroup]) -> Nccl | None:
        """All of it; None where NCCL told nothing. `process_groups` are those of the job, by torch."""
        if not self._sources:
            return None
        names = {identity: _name(group, process_groups) for identity, group in self._groups.items()}
        rows = [self._row(key, calls, names) for key, calls in _with_ways(self._calls).items()]
        rows.sort(key=lambda row: (COMM_KINDS.index(row.kind), row.group, -(row.payload_bytes or 0)))
        return Nccl(
            source=" and ".join(sorted(self._sources)),
            calls=tuple(rows),
            unfinished=tuple(self._told_unfinished(names)),
            lost=dict(self._lost),
            timer_residual_ns=max(self._residuals_ns, default=None),
        )

    def _join(self, rank: int, identity: int, communicator: Communicator, group: str | None) -> None:
        known = self._groups.setdefault(identity, _Group(communicator.ranks))
        if communicator.rank is not None:
            known.members[communicator.rank] = rank
        if communicator.transport:
            known.transports[communicator.transport] += 1
        name = group or communicator.description or communicator.group
        if name:
            known.told[name] += 1

    def _take(self, key: _Key, sequence: Int64s, times_ns: Int64s, alone: Mask) -> None:
        calls = self._calls[key]
        calls.calls = max(calls.calls, len(times_ns))
        calls.times_ns.append(_thinned(times_ns[times_ns >= 0], _MOST_KEPT))
        rated = (times_ns >= 0) & alone
        sequence, times_ns = sequence[rated], times_ns[rated]
        if key.kind == "p2p":  # they have no number: each counts for itself
            sequence = np.arange(len(times_ns)) + len(calls.shortest_ns)
        stride = _stride(len(times_ns), _MOST_SHARED)
        shared = sequence % stride == 0
        for number, time_ns in zip(sequence[shared].tolist(), times_ns[shared].tolist(), strict=True):
            calls.shortest_ns[number] = min(time_ns, calls.shortest_ns.get(number, time_ns))

    def _transport(self, identity: int) -> str | None:
        """What the communicator goes over on most of its ranks."""
        group = self._groups.get(identity)
        return group.transports.most_common(1)[0][0] if group and group.transports else None

    def _note_unfinished(self, rank: int, records: NcclRecords) -> None:
        operations = records.operations
        for row in records.in_flight.tolist():
            place = int(operations.communicator[row])
            identity = _identity(operations.communicators[place], place) if place != UNKNOWN else UNKNOWN
            function = operations.words[int(operations.function[row])]
            self._unfinished.append(
                (identity, int(operations.sequence[row]), rank, function, int(operations.payload_bytes[row]))
            )

    def _told_unfinished(self, names: Mapping[int, str]) -> Iterator[Unfinished]:
        ranks: dict[tuple[int, int, str, int], list[int]] = defaultdict(list)
        for identity, sequence, rank, function, payload in sorted(self._unfinished):
            ranks[identity, sequence, function, payload].append(rank)
        for (identity, sequence, function, payload), of_call in list(ranks.items())[-_MOST_UNFINISHED:]:
            yield Unfinished(
                function=function,
                group=names.get(identity, ""),
                sequence=_known(sequence),
                payload_bytes=_known(payload),
                ranks=tuple(sorted(set(of_call))),
            )

    def _row(self, key: _Key, calls: _Calls, names: Mapping[int, str]) -> NcclCalls:
        size = self._groups[key.communicator].ranks if key.communicator in self._groups else None
        times_ns = np.concatenate(calls.times_ns)
        transfer_ns = int(np.median(list(calls.shortest_ns.values()))) if calls.shortest_ns else None
        rate = key.payload_bytes / transfer_ns if transfer_ns and key.payload_bytes != UNKNOWN else None
        factor = wire_factor(key.kind, 2 if key.kind == "p2p" else size) if size else None
        return NcclCalls(
            kind=key.kind,
            function=key.function,
            group=names.get(key.communicator, ""),
            group_size=size,
            payload_bytes=_known(key.payload_bytes),
            algorithm=key.algorithm,
            protocol=key.protocol,
            channels=_known(key.channels),
            transport=self._transport(key.communicator),
            calls=calls.calls,
            median_ns=int(np.median(times_ns)) if len(times_ns) else None,
            p99_ns=int(np.quantile(times_ns, 0.99)) if len(times_ns) else None,
            transfer_ns=transfer_ns,
            algbw_gbps=rate,
            busbw_gbps=rate * factor if rate is not None and factor is not None else None,
        )


def _with_ways(calls: Mapping[_Key, _Calls]) -> dict[_Key, _Calls]:
    """Calls by key, those whose way is not told with those whose way is: a log has it on one rank of a communicator."""
    ways: dict[tuple[int, str, int], list[_Key]] = defaultdict(list)
    for key in calls:
        if key.algorithm or key.protocol:
            ways[key.communicator, key.function, key.payload_bytes].append(key)
    found: dict[_Key, _Calls] = {}
    for key, told in calls.items():
        known = ways.get((key.communicator, key.function, key.payload_bytes), [])
        if key not in known and len(known) == 1:
            key = known[0]
        found[key] = _together(found[key], told) if key in found else told
    return found


def _together(a: _Calls, b: _Calls) -> _Calls:
    shortest = {n: min(a.shortest_ns.get(n, t), t) for n, t in b.shortest_ns.items()}
    return _Calls(max(a.calls, b.calls), [*a.times_ns, *b.times_ns], a.shortest_ns | shortest)


def _by_key(operations: Operations) -> Iterator[tuple[_Key, Int64s]]:
    """The rows of each key, in the order in which they came."""
    columns = ("communicator", "function", "kind", "payload_bytes", "algorithm", "protocol", "channels")
    told = [getattr(operations, name) for name in columns]
    first, which = alike(told)
    different = np.stack([column[first] for column in told], axis=1)
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(different) + 1))
    words = operations.words
    for i, (place, function, kind, payload, algorithm, protocol, channels) in enumerate(different.tolist()):
        identity = _identity(operations.communicators[place], place) if place != UNKNOWN else UNKNOWN
        key = _Key(identity, words[function], COMM_KINDS[kind], payload, words[algorithm], words[protocol], channels)
        yield key, order[bounds[i] : bounds[i + 1]]


def _ran_alone(operations: Operations) -> Mask:
    """Which operations did not share their kernel: a channel tells one begin and one end for all that it was given at
    once, so that each of these seems to last as long as all together."""
    order = np.lexsort((operations.end_ns, operations.begin_ns, operations.communicator))
    begin_ns, end_ns = operations.begin_ns[order], operations.end_ns[order]
    near = np.diff(operations.communicator[order]) == 0
    near &= (np.diff(begin_ns) <= _ONE_KERNEL_NS) & (np.abs(np.diff(end_ns)) <= _ONE_KERNEL_NS)
    near &= begin_ns[1:] < end_ns[:-1]
    shared = np.zeros(len(order), dtype=np.bool_)
    shared[order[1:]] |= near
    shared[order[:-1]] |= near
    return ~shared


def _identity(communicator: Communicator, place: int) -> int:
    """What a communicator is known by on all its ranks: its hash, else its place among those of the rank."""
    return communicator.hash if communicator.hash is not None else -2 - place


def _name(group: _Group, process_groups: Sequence[ProcessGroup]) -> str:
    """What torch calls the group: as its captured kernels say, else by its members."""
    if group.told:
        return group.told.most_common(1)[0][0]
    members = tuple(sorted(group.members.values()))
    if len(members) != group.ranks:
        return ""
    known = [each for each in process_groups if tuple(sorted(each.ranks)) == members and "nccl" in each.backend]
    return " or ".join(dict.fromkeys(each.description or each.name for each in known))


def _thinned(values: Int64s, most: int) -> Int64s:
    return values[:: _stride(len(values), most)]


def _stride(count: int, most: int) -> int:
    """A power of two, so that ranks that differ by a few calls choose the same."""
    stride = 1
    while count // stride > most:
        stride *= 2
    return stride


def _known(value: int) -> int | None:
    return None if value == UNKNOWN else value
