"""Results made by hand: what a report is given, with the fields that a test is about and plain defaults elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shardprof.analysis.result import AlwaysOn, Collective, Finding, Rank, Result, Source, Step
from shardprof.analysis.rules import with_findings
from shardprof.analysis.rules._observing import Observer
from shardprof.analysis.summary import summarize
from shardprof.trace.classes import CLASSES, COMM_KINDS

MS = 1_000_000


def step(number: int = 7, *, empty: bool = False, **parts_ms: float) -> Step:
    """A step whose partition is `parts_ms`, in milliseconds by class, and in which nothing overlaps."""
    partition_ns = {name: round(parts_ms.get(name, 0) * MS) for name in CLASSES}
    wall_ns = sum(partition_ns.values())
    comm_kind_ns = {kind: partition_ns[kind] for kind in COMM_KINDS if partition_ns[kind]}
    return Step(
        step=number,
        begin_ns=0,
        wall_ns=wall_ns,
        busy_ns=0 if empty else wall_ns - partition_ns["idle"],
        compute_ns=partition_ns["compute"],
        comm_ns=sum(comm_kind_ns.values()),
        overlap_ns=0,
        partition_ns=partition_ns,
        comm_kind_ns=comm_kind_ns,
        overlapped_ns={},
        comm_bytes={},
        comm_calls={},
        empty=empty,
    )


def rank(number: int = 0, *steps: Step, host: str | None = None, device: str | None = "cuda", **fields: Any) -> Rank:
    """A rank with these captured steps."""
    return Rank(rank=number, host=host, device=device, total=None, steps=tuple(steps), **fields)


def always_on(wall_ms: float, **phases_ms: float) -> AlwaysOn:
    """Records of ten steps, seven of them usual, that took `wall_ms` each; phases that are not named were not seen."""
    phases = {f"{name}_ns": None for name in ("data", "forward", "backward", "optimizer")}
    phases |= {f"{name}_ns": round(value * MS) for name, value in phases_ms.items()}
    wall_ns = round(wall_ms * MS)
    return AlwaysOn(steps=10, usual_steps=7, wall_ns=wall_ns, slowest_step=3, slowest_wall_ns=wall_ns, **phases)


def collective(kind: str, group: str, ranks: Sequence[int], **fields: Any) -> Collective:
    """A row of the communication table."""
    sizes: dict[str, Any] = {"calls": 1, "payload_bytes": None, "wire_bytes": None} | fields
    return Collective(kind=kind, group=group, ranks=tuple(ranks), group_size=len(ranks), **sizes)


def result(*ranks: Rank, source: Mapping[str, Any] | None = None, **fields: Any) -> Result:
    """A report of these ranks; `source` overrides where it comes from."""
    origin: dict[str, Any] = {
        "paths": ("runs/example",),
        "kind": "traces",
        "command": None,
        "framework": None,
        "settings": {},
        "device_name": None,
        "world_size": len(ranks),
        "versions": {},
        "hosts": (),
        "exit_code": None,
    }
    content: dict[str, Any] = {"step_source": "ProfilerStep", "collectives": ()} | fields
    made = Result(source=Source(**(origin | dict(source or {}))), ranks=ranks, **content)
    return replace(made, summary=summarize(made))


def findings(made: Result) -> tuple[Finding, ...]:
    """What rules find in a report alone, without anything seen in traces."""
    found = with_findings(made, Observer([]), None).findings
    assert found is not None
    return found
