"""What a debug log of NCCL says, put together over ranks: groups, the way between them, choices, settings, warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.trace.nccl.log_meaning import MEANINGS, Weight
from shardprof.trace.nccl.log_record import Choice, LogCommunicator, LogProcess, NcclLog
from shardprof.trace.nccl.operations import payload_bytes

MATTER = frozenset(
    {
        "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE", "NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_NET_GDR_LEVEL",
        "NCCL_NET_GDR_READ", "NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS", "NCCL_MIN_CTAS",
        "NCCL_MAX_CTAS", "NCCL_BUFFSIZE", "NCCL_NTHREADS", "NCCL_NVLS_ENABLE", "NCCL_CUMEM_ENABLE", "NCCL_IB_HCA",
        "NCCL_SOCKET_IFNAME", "NCCL_IB_GID_INDEX", "NCCL_IB_TIMEOUT", "NCCL_CROSS_NIC", "NCCL_PROFILER_PLUGIN",
        "NCCL_TUNER_PLUGIN", "NCCL_TOPO_FILE", "NCCL_GRAPH_FILE", "NCCL_LAUNCH_MODE", "NCCL_HOSTID",
    }
)  # fmt: skip
"""Settings that change which way data takes, or how it is cut."""

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A communicator over all its ranks that the log has. `parent` and `color` are of a split, `parent` an index. What
    creating it took is the longest of its ranks. `incomplete` are ranks that began to create it and did not end."""

    id: int | None
    ranks: int | None
    nodes: int | None
    seen: tuple[int, ...]
    incomplete: tuple[int, ...]
    parent: int | None
    color: int | None
    calls: int
    channels: int | None
    init_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How ranks reach each other: over `pairs` of them, one direction each, with so many channels together."""

    transport: str
    kind: str
    is_gdr: bool
    pairs: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """How calls of one size were run. `size_bytes` is the payload, or where `is_told` what NCCL's line says: of no call
    that is in the log, and a rank's part of it since NCCL 2.24. The function is "" where it is not told."""

    function: str
    size_bytes: int | None
    is_told: bool
    choice: Choice
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A variable that NCCL found set: the ranks (or processes) of each value; `differs` where some have another."""

    name: str
    values: Mapping[str, tuple[str, ...]]
    differs: bool
    matters: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A kind of warning over all ranks: its text as it came first, how often, and on which ranks."""

    code: str
    weight: Weight
    text: str
    count: int
    who: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All of it, the worst warning first. `ranks` and `nodes` are of the largest group; None is what nobody told."""

    log: NcclLog
    ranks: int | None
    nodes: int | None
    networks: Mapping[str, tuple[str, ...]]
    groups: tuple[Group, ...]
    ways: tuple[Way, ...]
    chosen: tuple[Chosen, ...]
    settings: tuple[Setting, ...]
    warnings: tuple[Warned, ...]


def account(log: NcclLog) -> Account:
    """What a log says of the job."""
    groups = _groups(log)
    largest = max(groups, key=lambda group: group.ranks or 0, default=None)
    return Account(
        log=log,
        ranks=largest.ranks if largest else None,
        nodes=_nodes(log, largest) if largest else None,
        networks=_networks(log),
        groups=tuple(groups),
        ways=tuple(_ways(log.communicators)),
        chosen=tuple(_chosen(log)),
        settings=tuple(_settings(log.processes)),
        warnings=tuple(_warnings(log)),
    )


def name_of(process: LogProcess) -> str:
    """What a process is called where a rank is wanted: its rank, else what is known of it."""
    if process.rank is not None:
        return str(process.rank)
    return f"{process.host}:{process.pid}" if process.pid is not None else process.label or "?"


def _nodes(log: NcclLog, largest: Group) -> int | None:
    """NCCL tells since 2.20; else hosts are counted where every rank is in the log."""
    hosts = {process.host for process in log.processes if process.host}
    return largest.nodes or (len(hosts) if hosts and len(largest.seen) == largest.ranks else None)


def _networks(log: NcclLog) -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for process, topic, text in log.notes:
        if topic == "network":
            found[text.removeprefix("Using network ")].append(name_of(log.processes[process]))
    return {network: tuple(_ordered(names)) for network, names in found.items()}


def _groups(log: NcclLog) -> list[Group]:
    places: dict[_Key, int] = {}
    members: list[list[int]] = []
    place_of: list[int] = []
    order: Counter[_Key] = Counter()
    for index, communicator in enumerate(log.communicators):
        place = places.setdefault(_key(communicator, place_of, order), len(places))
        place_of.append(place)
        if place == len(members):
            members.append([])
        members[place].append(index)
    counted = np.bincount(log.calls.kinds, minlength=len(log.calls.calls))
    calls: Counter[int] = Counter()
    for call, count in zip(log.calls.calls, counted, strict=True):
        calls[call.communicator] += int(count)
    return [_group(log.communicators, own, place_of, calls) for own in members]


def _key(told: LogCommunicator, place_of: Sequence[int], order: Counter[_Key]) -> _Key:
    """What is the same on all ranks of a communicator: its id; of a split what it was made from, and how; else which
    communicator of so many ranks it is in its process."""
    if told.id is not None:
        return ("id", told.id, told.ranks)
    made: _Key = ("order", told.ranks)
    if told.parent is not None and told.parent < len(place_of):
        made = ("split", place_of[told.parent], told.child, told.color, told.ranks)
    order[told.process, told.rank, made] += 1
    return (*made, order[told.process, told.rank, made])


def _group(
    communicators: Sequence[LogCommunicator], members: Sequence[int], place_of: Sequence[int], calls: Mapping[int, int]
) -> Group:
    own = [communicators[index] for index in members]
    first = own[0]
    ranks = {each.rank for each in own if each.rank is not None}
    complete = {each.rank for each in own if each.is_complete}
    begun = {each.rank for each in own if not each.is_complete and each.rank is not None and each.device is not None}
    return Group(
        id=first.id,
        ranks=first.ranks,
        nodes=next((each.nodes for each in own if each.nodes), None),
        seen=tuple(sorted(ranks)),
        incomplete=tuple(sorted(begun - complete)),
        parent=place_of[first.parent] if first.parent is not None else None,
        color=first.color,
        calls=max(calls.get(index, 0) for index in members),
        channels=max((each.topology.channels.get("coll", len(each.topology.rings)) for each in own), default=0) or None,
        init_ns=max((each.init_ns["total"] for each in own if "total" in each.init_ns), default=None),
    )


def _ways(communicators: Sequence[LogCommunicator]) -> list[Way]:
    pairs: defaultdict[tuple[str, str, bool], dict[tuple[object, ...], int]] = defaultdict(dict)
    for number, communicator in enumerate(communicators):
        whose = communicator.id or (number if communicator.ranks is None else -communicator.ranks)
        for link, channels in communicator.topology.links.items():
            found = pairs[link.transport, link.kind, link.is_gdr]
            pair = (whose, link.source, link.target, link.device)
            found[pair] = max(found.get(pair, 0), channels)
    ways = [
        Way(
            transport=transport,
            kind=kind,
            is_gdr=is_gdr,
            pairs=len({pair[:3] for pair in found}),
            channels=sum(found.values()),
        )
        for (transport, kind, is_gdr), found in pairs.items()
    ]
    return sorted(ways, key=lambda way: (-way.channels, way.transport, way.kind))


def _chosen(log: NcclLog) -> list[Chosen]:
    """By function and size. Only the first rank of a communicator says how a call was run, so its calls alone count."""
    calls = log.calls
    found: Counter[tuple[str, int | None, bool, Choice]] = Counter()
    with_first = {each.id for each in log.communicators if each.rank == 0 and each.id is not None}
    pairs, counts = np.unique(calls.kinds * len(calls.chosen) + calls.choices, return_counts=True)
    for pair, count in zip(pairs, counts, strict=True):
        kind, chosen = divmod(int(pair), len(calls.chosen))
        call = calls.calls[kind]
        communicator = log.communicators[call.communicator]
        if not communicator.rank or communicator.id not in with_first:
            payload = payload_bytes(call.function, call.count, call.datatype, communicator.ranks)
            found[call.function, payload, False, calls.chosen[chosen]] += int(count)
    for tuned, many in calls.tuned.items():
        found[tuned.function, tuned.told_bytes, True, tuned.choice] += many
    rows = [
        Chosen(function=function, size_bytes=size, is_told=is_told, choice=choice, calls=count)
        for (function, size, is_told, choice), count in found.items()
    ]
    return sorted(rows, key=lambda row: (row.function, row.size_bytes or 0, -row.calls, row.choice.algorithm))


def _settings(processes: Sequence[LogProcess]) -> list[Setting]:
    told = [process for process in processes if process.settings]
    found: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for process in told:
        for name, value in process.settings.items():
            found[name][value].append(name_of(process))
    settings = [
        Setting(
            name=name,
            values={value: tuple(_ordered(names)) for value, names in sorted(values.items())},
            differs=len(values) > 1,
            matters=name in MATTER,
        )
        for name, values in found.items()
    ]
    return sorted(settings, key=lambda setting: (not setting.differs, not setting.matters, setting.name))


def _warnings(log: NcclLog) -> list[Warned]:
    """Known ones by their code, others by their text; of one weight the one that came first is first."""
    found: dict[str, list[int]] = {}
    for index, warning in enumerate(log.warnings):
        found.setdefault(warning.code or warning.text, []).append(index)
    rows = []
    for members in found.values():
        own = [log.warnings[index] for index in members]
        known = MEANINGS.get(own[0].code)
        rows.append(
            Warned(
                code=own[0].code,
                weight=known.weight if known else Weight.CONSEQUENCE,
                text=own[0].text,
                count=sum(warning.count for warning in own),
                who=tuple(_ordered({name_of(log.processes[warning.process]) for warning in own})),
            )
        )
    return sorted(rows, key=lambda row: -row.weight)


def _ordered(names: Sequence[str] | set[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
