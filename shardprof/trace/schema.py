"""The run folder: where its files lie and what their records hold. Used inside ranks, so it imports nothing but Python.

    run.json                       RunRecord, written when recording starts and again when it ends
    hosts/<name>/host.json         HostRecord of one node, written by its launcher
    hosts/<name>/counters.jsonl    a CounterRecord a line, appended (a Journal)
    nccl/<host>/nccl.PID.*         what NCCL told of that process: its plugin's records, its log (trace/nccl/)
    ranks/00000/rank.json          RankRecord, rewritten when something about the rank becomes known
    ranks/00000/steps.jsonl        a StepRecord a line, appended: always on (a Journal)
    ranks/00000/trace.json.gz      Kineto's trace of the captured steps (`trace.1.json.gz`, ... for further windows);
                                   without `.gz` where the rank was stopped before it was compressed

Whole files are replaced atomically, the others only grow: a writer that is killed costs at most its last record.
Times are nanoseconds since the Unix epoch on the rank's own clock, sizes are bytes; None is "not measured".
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from shardprof.trace.journal import read_text_lines
from shardprof.trace.whole import appearing

RUN_SCHEMA = "shardprof.run/1"
RUN_FILE = "run.json"
HOST_FILE = "host.json"
COUNTERS_FILE = "counters.jsonl"
RANK_FILE = "rank.json"
STEPS_FILE = "steps.jsonl"
STACKS_FILE = "stacks.json.gz"
FLIGHT_FILE = "flight.json"
TIMELINE_FILE = "timeline.json.gz"
TIMELINE_MARK = "shardprof"
"""The member by which a timeline tells what it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePlan:
    """Which steps torch.profiler captures, and with what detail.

    Steps `first_step` .. `first_step + steps - 1` are captured after `warmup_steps`; with `repeat` > 1 the same
    pass/warm-up/capture cycle runs again from there, with 0 nothing is captured unless it is asked for while the job
    runs. `shapes` None means: where sizes need it (no NCCL). With `watchdog_s` a rank that makes no progress for so
    long is told of and keeps what torch's flight recorder knows; with `stacks` Python stacks are sampled from outside.
    `nccl` is how NCCL tells of itself: "plugin", "proxy" (with what its proxies did), "log" or "off".
    """

    first_step: int = 7
    steps: int = 5
    warmup_steps: int = 2
    repeat: int = 1
    shapes: bool | None = None
    stack: bool = False
    memory: bool = False
    watchdog_s: int | None = None
    stacks: bool = False
    nccl: str = "plugin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a node's part of the job ended."""

    exit_code: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device whose counters are sampled, by the `subject` under which they stand ("gpu 0": its NVML index)."""

    subject: str
    name: str
    uuid: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterCost:
    """What sampling `source` on `host` took: samples, the time they took together, the shortest interval between."""

    host: str
    source: str
    interval_ns: int
    samples: int
    cost_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """One node: who it is, what was sampled there, how its part of the job ended (None: still running or killed).

    `identity` tells two nodes of one name apart; `launcher_pid` is the recorder's process on it. Where a node has a
    recorder in each task, `beside` names the first one, whose folder has the node's counters and whose name its ranks.
    `recorder_cpu_s` is the CPU time of the recorder's own process, its counters included.
    """

    name: str
    identity: str
    launcher_pid: int
    cpu_count: int
    memory_bytes: int
    beside: str | None = None
    devices: tuple[Device, ...] = ()
    counter_costs: tuple[CounterCost, ...] = ()
    recorder_cpu_s: float | None = None
    outcome: Outcome | None = None
    notes: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """What tells machines apart: containers of one have a name and a network of their own, and its clock."""
        return self.identity.split("/")[-2] if self.identity.count("/") >= 2 else self.identity


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What was run and what came of it. `outcome` is None while the job runs or when the recorder was killed.

    `dropped_records` counts what shardprof lost by its own fault, `always_on_share` is the share of step time that
    its hooks took outside captured steps (None: too few steps to tell).
    """

    schema: str = RUN_SCHEMA
    command: tuple[str, ...]
    launcher: str
    started_ns: int
    plan: CapturePlan
    versions: dict[str, str]
    environment: dict[str, str]
    hosts: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    process_groups: tuple[ProcessGroup, ...] = ()
    counter_costs: tuple[CounterCost, ...] = ()
    dropped_records: int = 0
    always_on_share: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """A process group as torch names it; `description` tells shard from replicate groups (`mesh_shard`, ...)."""

    name: str
    description: str
    backend: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A captured window: steps `first_step` .. `last_step`, in `file`.

    `profiler` is "shardprof", or "user" for a trace that the script's own torch.profiler exported (`file` is then
    wherever it wrote it). `export_ns` is what writing it cost the rank.
    """

    first_step: int
    last_step: int
    file: str
    profiler: str = "shardprof"
    export_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclSetup:
    """How NCCL was asked to tell of itself in one process. `mode` is that of the plan which came about, `why` says what
    stood against the one that was wanted. `plugin` is the profiler plugin that NCCL finds, ours or another; `log` where
    its log goes, empty for the job's own output."""

    version: str
    plugin: str
    mode: str
    log: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """One rank: where it ran, what trained it, what was captured and what went wrong in recording it.

    `framework` is "FSDP2", "FSDP1", "DDP", "DeepSpeed" or "" (none seen); `settings` is what its adapter could read
    (`strategy`, `zero_stage`, `precision`, `mesh`, `parameters`, ...), all optional. `device_uuid` is that of the GPU
    which it computes on, as NVML writes it. `exit_code` is how it left the block of `shardprof.record()` that was
    recorded: 0, or not 0 by an exception; None inside one, and where a whole job is recorded.
    """

    rank: int
    world_size: int
    local_rank: int
    host: str
    pid: int
    device: str
    device_uuid: str | None = None
    started_ns: int
    versions: dict[str, str]
    framework: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    nccl_setup: NcclSetup | None = None
    process_groups: tuple[ProcessGroup, ...] = ()
    windows: tuple[Window, ...] = ()
    exit_code: int | None = None
    dropped_records: int = 0
    notes: tuple[str, ...] = ()


def last_attempt(records: Iterable[RankRecord]) -> list[RankRecord]:
    """The ranks that the job has since it was started last: an elastic one may have gone on with fewer."""
    known = list(records)
    latest = max(known, key=lambda record: record.started_ns, default=None)
    return [
        record
        for record in known
        if latest is None or record.rank < latest.world_size or record.world_size <= latest.world_size
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One training step of one rank; phases are time on the main thread, None where the phase was not seen.

    `hook_ns` is what shardprof's own hooks took of it, starting and exporting the profiler included, `gc_ns` Python's
    garbage collector. `profiling` is
    True while shardprof's profiler is there at all, `captured` while it records. `cuda_memory` is what torch's
    allocator held at the step's end: bytes `allocated_bytes`, `active_bytes`, `reserved_bytes`, their `peak_...` since
    the process began, and how often memory ran short, `alloc_retries`, `ooms`; empty without a GPU.
    """

    step: int
    begin_ns: int
    end_ns: int
    data_ns: int | None = None
    forward_ns: int | None = None
    backward_ns: int | None = None
    optimizer_ns: int | None = None
    captured: bool = False
    profiling: bool = False
    hook_ns: int = 0
    gc_ns: int = 0
    cuda_memory: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterRecord:
    """One sample of one source on one node: `values` by subject ("rank 0", "gpu 0", "eth0", "node"), then by name.

    `events` is what has happened to a subject since the sample before ("xid 79").
    """

    time_ns: int
    source: str
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)


def gpu_of(host: HostRecord, rank: RankRecord) -> str | None:
    """The counters' name for the GPU that a rank computes on."""
    return next((device.subject for device in host.devices if device.uuid == rank.device_uuid), None)


class RunFolder:
    """The paths of one run folder. Makes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_file = root / RUN_FILE

    @property
    def name(self) -> str:
        """What the run is called; a run that is named by "." has a name too."""
        return self.root.resolve().name

    def rank(self, rank: int) -> Path:
        """The folder of one rank."""
        return self.root / "ranks" / f"{rank:05d}"

    def host(self, name: str) -> Path:
        """The folder of one node."""
        return self.root / "hosts" / name

    def nccl(self, host: str) -> Path:
        """What NCCL told on one node; its files name the process, since NCCL is there before a rank is known."""
        return self.root / "nccl" / host

    def rank_folders(self) -> list[Path]:
        """The ranks that checked in, in order."""
        return sorted(path for path in self.root.glob("ranks/*") if path.name.isdigit())

    def host_folders(self) -> list[Path]:
        """The nodes whose launchers checked in."""
        return sorted(path for path in self.root.glob("hosts/*") if path.is_dir())


R = TypeVar("R")


@functools.cache
def _names(record_type: Hashable) -> tuple[str, ...]:
    return tuple(spec.name for spec in dataclasses.fields(cast(Any, record_type)))


def _fields(record: Any) -> dict[str, Any]:
    """Those that are not as they are anyway: lines are many."""
    named = ((name, getattr(record, name)) for name in _names(cast(Hashable, type(record))))
    return {name: value for name, value in named if value is not None and value != {}}


_encode = json.JSONEncoder(default=_fields).encode  # asdict() would copy every value first, at five times the cost


def to_json(record: Any) -> str:
    """A record as one line of JSON, without what is None or empty."""
    return _encode(record)


def to_whole_json(record: Any) -> str:
    """A record as a file of its own: every field, for people too."""
    return json.dumps(dataclasses.asdict(record), indent=1) + "\n"


def from_json(record_type: type[R], values: dict[str, Any]) -> R:
    """A record from decoded JSON. Unknown names are ignored, so that a newer writer can be read.

    Raises TypeError or ValueError where a required field is missing or a value is of another type.
    """
    known = {}
    for spec in dataclasses.fields(record_type):  # type: ignore[arg-type]
        if spec.name in values:
            value = known[spec.name] = _revive(spec.name, values[spec.name])
            if not isinstance(value, _PLAIN_TYPES.get(str(spec.type), object)):
                raise TypeError(f"{spec.name} is {value!r}, not {spec.type}")
    return record_type(**known)


_PLAIN_TYPES: dict[str, Any] = {
    "int": int, "int | None": (int, type(None)), "str": str, "str | None": (str, type(None)), "bool": bool
}  # fmt: skip


_NESTED: dict[str, type[Any]] = {"plan": CapturePlan, "outcome": Outcome, "nccl_setup": NcclSetup}
_NESTED_LISTS: dict[str, type[Any]] = {
    "process_groups": ProcessGroup, "windows": Window, "devices": Device, "counter_costs": CounterCost
}  # fmt: skip


def _revive(name: str, value: Any) -> Any:
    if name in _NESTED and value is not None:
        return from_json(_NESTED[name], value)
    if name in _NESTED_LISTS:
        return tuple(from_json(_NESTED_LISTS[name], item) for item in value)
    return tuple(value) if isinstance(value, list) else value


def write_whole(path: Path, record: Any) -> None:
    """Replace `path` by the record, atomically: a reader sees the old file or the new one."""
    with appearing(path) as partial:
        partial.write_text(to_whole_json(record))


def read_whole(record_type: type[R], path: Path) -> R:
    """The record in `path`; OSError, ValueError or TypeError where it cannot be had."""
    return from_json(record_type, _parsed(path.read_text()))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:  # brackets without end
        raise ValueError("nested too deeply") from error


def read_lines(record_type: type[R], path: Path) -> Iterator[R]:
    """The records of a journal; a torn line is left out, a missing file is empty."""
    return parse_lines(record_type, read_text_lines(path))


def parse_lines(record_type: type[R], lines: Iterable[str]) -> Iterator[R]:
    """The records in lines of JSON; what is torn or of another type is left out."""
    for line in lines:
        try:
            yield from_json(record_type, _parsed(line))
        except (ValueError, TypeError):
            continue


def read_steps(path: Path) -> list[StepRecord]:
    """The steps of a rank."""
    steps: list[StepRecord] = []
    for record in read_lines(StepRecord, path):
        put_step(steps, record)
    return steps


def put_step(steps: list[StepRecord], record: StepRecord) -> None:
    """Append a step, which takes the place of those whose numbers are not below its own: they were parts of it."""
    while steps and steps[-1].step >= record.step:
        steps.pop()
    steps.append(record)
