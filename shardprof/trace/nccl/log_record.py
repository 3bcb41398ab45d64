"""What a debug log of NCCL tells, as data: processes, communicators, how they are connected, calls, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardprof.engine import Int64s
from shardprof.trace.quality import Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProcess:
    """A process that wrote lines. `host` is "" and `pid` None where the prefix was lost; `label` is what a launcher put
    before its lines. `rank` is the one in the job: None where it is not told, or where the process has several."""

    host: str
    pid: int | None
    label: str = ""
    rank: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection from a rank to another one of its communicator. `transport` is P2P, SHM, NET or COLLNET, `kind` what
    of it ("IPC", "CUMEM", "direct pointer"; of NET the network: "IB", "Socket", "AWS Libfabric"); `device` the network
    card's number, `proxy` the rank whose card it is where that is another one."""

    source: int
    target: int
    transport: str
    kind: str
    device: int | None = None
    is_gdr: bool = False
    proxy: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """How a communicator is connected, as far as one process tells. `rings` are ranks in order, by channel: of many
    ranks NCCL writes the first ones only; `trees` are this rank's (parent, children) by channel; `channels` counts of
    them by kind; `links` count channels. `patterns` is the number of channels, the path type inside a node and between
    nodes by NCCL's pattern number."""

    rings: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    trees: Mapping[int, tuple[int | None, tuple[int, ...]]] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[Link, int] = field(default_factory=dict)
    patterns: Mapping[int, tuple[int, str, str]] = field(default_factory=dict)
    pxn: bool | None = None
    gdr: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCommunicator:
    """One rank's end of a communicator, in the process of index `process`. `pointer` is unique in its process as long
    as the communicator lives; `id` is the same on all ranks, and None before NCCL 2.16 and for splits since 2.23, which
    have a `parent` (an index), a `color` and a `key`. `init_ns` is what creating it took, by part; "total" is all."""

    process: int
    pointer: int
    id: int | None = None
    rank: int | None = None
    ranks: int | None = None
    nodes: int | None = None
    device: int | None = None
    parent: int | None = None
    child: int | None = None
    color: int | None = None
    key: int | None = None
    is_complete: bool = False
    init_ns: Mapping[str, int] = field(default_factory=dict)
    topology: Topology = Topology()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWarning:
    """A warning of one process: its text as it came first, with `count` others that differ in numbers only, and what it
    is known to be: a code of log_meaning.py, "" for an unknown one. `time_ns` is when it came first, if known."""

    process: int
    text: str
    code: str
    count: int
    time_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of NCCL without what differs from one to the next: where, what, how much."""

    communicator: int
    function: str
    count: int
    datatype: str
    root: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How NCCL ran a call: words are "" and numbers None where it did not say."""

    algorithm: str = ""
    protocol: str = ""
    channels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A choice that is told of no call: by the bytes in NCCL's line, of the function ("" before NCCL 2.23)."""

    function: str
    told_bytes: int
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """All calls in the order of the log: `kinds` are indices into `calls`, `choices` ones into `chosen`, `times_ns`
    UNKNOWN where the log has no time that a zone goes with. `tuned` counts the choices without a call."""

    calls: tuple[Call, ...]
    chosen: tuple[Choice, ...]
    kinds: Int64s
    choices: Int64s
    times_ns: Int64s
    tuned: Mapping[Tuned, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclLog:
    """What some logs tell together. `lines` counts NCCL's. Versions are in the order in which they came, as is `notes`:
    (process, topic, text) of the network that was found, plugins and GPUDirect."""

    lines: int
    nccl: tuple[str, ...]
    runtime: tuple[str, ...]
    is_rccl: bool
    processes: tuple[LogProcess, ...]
    communicators: tuple[LogCommunicator, ...]
    notes: tuple[tuple[int, str, str], ...]
    warnings: tuple[LogWarning, ...]
    calls: Calls
    quality: tuple[Quality, ...]
