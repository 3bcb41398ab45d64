"""The Result of a report: what every output renders. Its fields are the JSON contract; see docs/definitions.md.

Times are nanoseconds, sizes bytes. None is "not measured", with a line in `quality` that says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shardprof.trace.quality import Quality

SCHEMA = "shardprof.report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A rank's whole trace: first activity to the last one's end, unions of activities, and how they overlap.

    `busy` is any activity, `idle` the rest of the span; `overlap` is communication under compute, `exposed_comm` the
    communication outside it. `gpu_events` counts GPU activities.
    """

    span_ns: int
    busy_ns: int
    idle_ns: int
    compute_ns: int
    comm_ns: int
    exposed_comm_ns: int
    overlap_ns: int
    memcpy_ns: int
    memset_ns: int
    gpu_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one rank. `partition_ns` sums to `wall_ns`; the other times are unions clipped to the step.

    `comm_kind_ns` is each kind's own time, `overlapped_ns` the part of it under compute; kinds may run at once.

    `comm_bytes` (payload) and `comm_calls` count the collectives launched in the step, by kind. `empty` marks a
    step that holds no work; such steps are kept out of medians.
    """

    step: int
    begin_ns: int
    wall_ns: int
    busy_ns: int
    compute_ns: int
    comm_ns: int
    overlap_ns: int
    partition_ns: dict[str, int]
    comm_kind_ns: dict[str, int]
    overlapped_ns: dict[str, int]
    comm_bytes: dict[str, int | None]
    comm_calls: dict[str, int]
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysOn:
    """What was recorded of every step, captured or not: medians over steps of time on the main thread."""

    steps: int
    wall_ns: int
    slowest_step: int
    slowest_wall_ns: int
    data_ns: int | None
    forward_ns: int | None
    backward_ns: int | None
    optimizer_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank. `device` is "cuda" or "cpu", None (with `total`) where nothing ran in its trace."""

    rank: int
    host: str | None
    device: str | None
    total: Total | None
    steps: tuple[Step, ...]
    always_on: AlwaysOn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """All calls of one kind in one group, over the captured steps, each collective counted once.

    `wire_bytes` is what each rank of the group sends for them; for gloo's reduce-scatter that is an all-reduce's.
    """

    kind: str
    group: str
    ranks: tuple[int, ...] | None
    group_size: int | None
    calls: int
    payload_bytes: int | None
    wire_bytes: int | None
    transfer_ns: int | None = None
    wait_ns: int | None = None
    algbw_gbps: float | None = None
    busbw_gbps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One node: its ranks, and the bytes its network links carried while steps were captured, by interface."""

    name: str
    ranks: tuple[int, ...]
    link_tx_bytes: dict[str, int] | None
    link_rx_bytes: dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was read. `kind` is "run" (recorded by shardprof) or "traces" (of other tools)."""

    paths: tuple[str, ...]
    kind: str
    command: str | None
    framework: str | None
    settings: dict[str, Any]
    device_name: str | None
    world_size: int | None
    versions: dict[str, str]
    hosts: tuple[Host, ...]
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that a report says. `step_source` tells how steps were found.

    `clock`, `stragglers` and `findings` are None until an analysis across ranks fills them.
    """

    schema: str = SCHEMA
    source: Source
    step_source: str
    ranks: tuple[Rank, ...]
    collectives: tuple[Collective, ...]
    clock: tuple[Any, ...] | None = None
    stragglers: tuple[Any, ...] | None = None
    findings: tuple[Any, ...] | None = None
    quality: tuple[Quality, ...] = field(default=())
