"""A Run in, a Result out: every analysis over every rank, one rank in memory at a time."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shardprof.analysis import always_on, breakdown
from shardprof.analysis.communication import CommunicationTable
from shardprof.analysis.group_places import with_places
from shardprof.analysis.late_counters import counter_evidence
from shardprof.analysis.late_tasks import with_tasks
from shardprof.analysis.links import link_bytes
from shardprof.analysis.nccl import NcclTable
from shardprof.analysis.nodes import Nodes
from shardprof.analysis.result import Host, Rank, Result, Source, Step, Straggler
from shardprof.analysis.rules import observer, with_findings
from shardprof.analysis.rules._observing import Observer
from shardprof.analysis.rules._view import View
from shardprof.analysis.series import series
from shardprof.analysis.slow_links import slow_links
from shardprof.analysis.stragglers import stragglers, with_lateness
from shardprof.analysis.summary import summarize
from shardprof.analysis.together import Together, together
from shardprof.analysis.volumes.volumes import volumes
from shardprof.trace.across.calls import RankWindow, window_of
from shardprof.trace.across.tasks import Tasks, add_tasks, tasks_of
from shardprof.trace.activities import Activities
from shardprof.trace.collectives import UNKNOWN, Collectives
from shardprof.trace.device_doubts import device_doubts
from shardprof.trace.events import Mask
from shardprof.trace.framework_names import framework_of
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.nccl.matching import groups_of, match
from shardprof.trace.nccl.operations import Operations
from shardprof.trace.quality import Quality, counted
from shardprof.trace.run import HostFolder, RankTraces, Run
from shardprof.trace.schema import CapturePlan, RankRecord
from shardprof.trace.step_doubts import step_doubts
from shardprof.trace.steps import StepWindows, find_steps
from shardprof.words import numbers, plural

_SHOWN_RANKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What one rank tells about the job as a whole."""

    record: RankRecord | None
    framework: str | None
    device_name: str | None
    world_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """What is kept of all ranks' traces, whose recording followed the plan, to be compared when the last was read."""

    plan: CapturePlan | None
    table: CommunicationTable = field(default_factory=CommunicationTable)
    windows: list[RankWindow] = field(default_factory=list)
    tasks: dict[int, list[Tasks]] = field(default_factory=dict)
    observer: Observer = field(default_factory=observer)
    nccl: NcclTable = field(default_factory=NcclTable)

    def take(self, traces: RankTraces, trace: KinetoTrace, activities: Activities, steps: StepWindows) -> None:
        """What of a trace of a rank outlives it; `steps` are those that hold work."""
        self.windows.append(window_of(traces, trace, activities, steps))
        self.tasks.setdefault(traces.rank, []).append(tasks_of(trace, steps.windows))
        if steps.numbers:
            self.observer.take(_view(traces, trace, activities, steps))


def analyse(run: Run) -> Result:
    """Everything that is known of a run. Raises ShardprofError where its traces cannot be read."""
    gathered = _Gathered(plan=run.record.plan if run.record else None)
    doubts = [*run.quality, *_notes_of(run.hosts)]
    uncaptured: list[tuple[int, str]] = []
    nodes = Nodes(run.hosts)
    ranks, found, identities = [], list[StepWindows](), []
    for traces in run.ranks(doubts):
        rank, rank_found, rank_doubts = _analyse_rank(traces, gathered)
        rank = nodes.with_counters(rank, traces)
        ranks.append(rank)
        found += rank_found
        doubts += rank_doubts
        if not traces.traces:
            uncaptured.append((traces.rank, _why_uncaptured(traces, gathered.plan)))
        identities.append(_identity(traces))
    doubts += _nothing_captured(uncaptured, len(ranks))
    ranks.sort(key=lambda rank: rank.rank)
    all_ranks = together(gathered.windows, run.reading.clock) if len(ranks) > 1 else None
    step_source = Counter(steps.source for steps in found).most_common(1)[0][0] if found else "none"
    rows = with_places(gathered.table.rows(), ranks)
    result = Result(
        source=_source(run, ranks, identities, nodes),
        step_source=step_source,
        step_confidence=min((steps.confidence for steps in found if steps.source == step_source), default=None),
        ranks=_with_lateness(ranks, all_ranks),
        stragglers=_stragglers(ranks, all_ranks, gathered.tasks) if all_ranks else None,
        collectives=tuple(map(all_ranks.with_times, rows)) if all_ranks else rows,
        clock=all_ranks.clock if all_ranks else None,
        notices=nodes.notices(),
        nccl=gathered.nccl.result(run.record.process_groups if run.record else ()),
        quality=tuple(counted(doubts + _doubts_about_the_job(ranks, identities, all_ranks))),
    )
    summary = summarize(result)
    result = replace(result, summary=summary, series=series(run, summary, nodes))
    result = replace(result, volumes=volumes(result))
    return with_findings(result, gathered.observer, all_ranks)


def _analyse_rank(traces: RankTraces, gathered: _Gathered) -> tuple[Rank, list[StepWindows], list[Quality]]:
    steps: list[Step] = []
    totals, all_found, launched = [], [], []
    doubts = list(traces.quality)
    device = None
    for trace in traces.traces:
        if trace.activities is None:
            message = f"{trace.path.name} holds no operators and no device activities"
            doubts.append(Quality(code="no_activities", message=message))
            continue
        found = find_steps(trace, traces.steps)
        all_found.append(found)
        doubts += [*device_doubts(trace.events, trace.activities), *step_doubts(trace, found)]
        device = trace.activities.device
        of_trace = breakdown.steps(trace.activities, found, trace.base_ns)
        steps += of_trace
        totals += [total] if (total := breakdown.total(trace.activities)) else []
        full = np.array([not step.empty for step in of_trace], dtype=np.bool_)
        launched.append(trace.activities.collectives.launched_inside(found.windows[full]))
        gathered.take(traces, trace, trace.activities, _only(found, full))
    gathered.table.add_rank(launched)
    if told := traces.nccl():
        gathered.nccl.add_rank(traces.rank, told, _captured_groups(traces, told.operations))
    doubts += _collectives_unknown(launched)
    rank = Rank(
        rank=traces.rank,
        host=traces.host,
        device=device,
        total=breakdown.add(totals) if totals else None,
        steps=tuple(steps),
        role=next((trace.role for trace in traces.traces), None),
        always_on=always_on.summary(traces.steps),
    )
    return rank, all_found, doubts + _record_doubts(traces.record)


def _captured_groups(traces: RankTraces, operations: Operations) -> dict[int, str]:
    """The process groups of NCCL's communicators, by their captured kernels."""
    groups: dict[int, str] = {}
    for trace in traces.traces:
        if trace.activities is not None:
            kernels = trace.activities.collectives
            groups |= groups_of(operations, kernels, match(operations, kernels, trace.base_ns))
    return groups


def _stragglers(ranks: list[Rank], all_ranks: Together, parts: dict[int, list[Tasks]]) -> tuple[Straggler, ...]:
    tasks = {rank: add_tasks(of_rank) for rank, of_rank in parts.items()}
    by_tasks = [with_tasks(found, tasks) for found in stragglers(ranks, all_ranks.calls, all_ranks.lateness)]
    late = [
        replace(found, evidence=(*found.evidence, *counter_evidence(found.rank, found.cause, ranks)))
        for found in by_tasks
    ]
    return tuple(sorted([*late, *slow_links(ranks)], key=lambda straggler: -straggler.cost_ns_per_step))


def _with_lateness(ranks: list[Rank], all_ranks: Together | None) -> tuple[Rank, ...]:
    if all_ranks is None:
        return tuple(ranks)
    return with_lateness(ranks, all_ranks.calls, all_ranks.lateness, all_ranks.wait_ns)


def _only(found: StepWindows, full: Mask) -> StepWindows:
    """The steps that hold work."""
    numbers = tuple(number for number, is_full in zip(found.numbers, full.tolist(), strict=True) if is_full)
    return replace(found, numbers=numbers, windows=found.windows[full])


def _view(traces: RankTraces, trace: KinetoTrace, activities: Activities, steps: StepWindows) -> View:
    return View(
        rank=traces.rank,
        trace=trace,
        activities=activities,
        steps=steps,
        record=traces.record,
        step_records=tuple(traces.steps),
    )


def _collectives_unknown(launched: list[Collectives]) -> list[Quality]:
    sizes = sum(int((window.payload_bytes == UNKNOWN).sum()) for window in launched)
    groups = sum(int((window.group == UNKNOWN).sum()) for window in launched)
    doubts = []
    if sizes:
        doubts.append(
            Quality(code="sizes_unknown", message="collectives whose size the trace does not tell", count=sizes)
        )
    if groups:
        message = "collectives whose process group, so their bytes on the wire, the trace does not tell"
        doubts.append(Quality(code="groups_unknown", message=message, count=groups))
    return doubts


def _nothing_captured(uncaptured: list[tuple[int, str]], ranks: int) -> list[Quality]:
    """The ranks without captured steps, by why; they are named where others have some."""
    doubts = []
    for why in dict.fromkeys(why for _, why in uncaptured):
        of_ranks = [rank for rank, told in uncaptured if told == why]
        where = "" if len(of_ranks) == ranks else f" on rank{'' if len(of_ranks) == 1 else 's'} {numbers(of_ranks)}"
        doubts.append(Quality(code="nothing_captured", message=f"no step was captured{where}{why}"))
    return doubts


def _why_uncaptured(traces: RankTraces, plan: CapturePlan | None) -> str:
    if plan is not None and plan.repeat == 0:
        return ": the recording was a light one; while such a job runs, `shardprof trigger` captures steps"
    if traces.record is not None and traces.steps and not traces.record.windows:
        steps = plural(traces.steps[-1].step + 1, "step")
        return f": it ended after {steps}; record with --steps to capture earlier ones"
    return ""


def _notes_of(hosts: Sequence[HostFolder]) -> list[Quality]:
    """What went wrong beside the ranks: sinks, counters, the recorder itself."""
    notes = [note for host in hosts if host.record for note in host.record.notes]
    return [Quality(code="recording_note", message=note) for note in notes]


def _record_doubts(record: RankRecord | None) -> list[Quality]:
    if record is None:
        return []
    doubts = [Quality(code="recording_note", message=note) for note in record.notes]
    if record.dropped_records:
        message = "records that recording lost"
        doubts.append(Quality(code="dropped_records", message=message, count=record.dropped_records))
    return doubts


def _missing_ranks(ranks: list[Rank], identities: list[_Identity]) -> list[Quality]:
    world = max((identity.world_size or 0 for identity in identities), default=0)
    present = {rank.rank for rank in ranks if rank.rank < world}
    count = world - len(present)
    if count <= 0:
        return []
    first = itertools.islice((rank for rank in range(world) if rank not in present), _SHOWN_RANKS)
    *others, last = [*map(str, first), *(["others"] if count > _SHOWN_RANKS else [])]
    missing = f"ranks {', '.join(others)} and {last} of the job are" if others else f"rank {last} of the job is"
    message = f"{missing} not in this report"
    return [Quality(code="missing_ranks", message=message, count=count)]


def _different_jobs(identities: list[_Identity]) -> list[Quality]:
    worlds = sorted({identity.world_size for identity in identities if identity.world_size})
    if len(worlds) < 2:
        return []
    message = f"the traces are of different jobs: of {' and '.join(map(str, worlds))} ranks"
    return [Quality(code="different_jobs", message=message)]


def _doubts_about_the_job(ranks: list[Rank], identities: list[_Identity], all_ranks: Together | None) -> list[Quality]:
    compared = all_ranks.doubts() if all_ranks else []
    return [*_different_jobs(identities), *_missing_ranks(ranks, identities), *compared]


def _identity(traces: RankTraces) -> _Identity:
    metadata = traces.traces[0].metadata if traces.traces else {}
    world = traces.traces[0].distributed_info.get("world_size") if traces.traces else None
    devices = metadata.get("deviceProperties")
    named = [device for device in devices if isinstance(device, dict)] if isinstance(devices, list) else []
    name = next((device.get("name") for device in named), None)
    used = bool(traces.traces and traces.traces[0].activities and traces.traces[0].activities.device == "cuda")
    return _Identity(
        record=traces.record,
        framework=framework_of(name for trace in traces.traces for name in trace.events.names),
        device_name=str(name) if name and used else None,
        world_size=world if isinstance(world, int) else (traces.record.world_size if traces.record else None),
    )


def _source(run: Run, ranks: list[Rank], identities: list[_Identity], nodes: Nodes) -> Source:
    first = next((identity.record for identity in identities if identity.record), None)
    record = run.record
    return Source(
        paths=tuple(str(path) for path in run.paths),
        kind="run" if first else "traces",
        command=shlex.join(record.command) if record else None,
        framework=first.framework if first else identities[0].framework if identities else None,
        settings=dict(first.settings) if first else {},
        device_name=next((identity.device_name for identity in identities if identity.device_name), None),
        world_size=max((identity.world_size or 0 for identity in identities), default=0) or None,
        versions=dict(first.versions) if first else {},
        hosts=tuple(_host(host, ranks, nodes) for host in run.hosts),
        exit_code=record.outcome.exit_code if record and record.outcome else None,
        environment=dict(record.environment) if record else {},
    )


def _host(host: HostFolder, ranks: list[Rank], nodes: Nodes) -> Host:
    here = [rank for rank in ranks if rank.host == host.name]
    steps = [step for rank in here for step in rank.steps]
    tx = rx = None
    if steps:
        begin_ns = min(step.begin_ns for step in steps)
        end_ns = max(step.begin_ns + step.wall_ns for step in steps)
        counters = nodes.counters(host.name)
        tx = link_bytes(counters, begin_ns, end_ns, "tx_bytes")
        rx = link_bytes(counters, begin_ns, end_ns, "rx_bytes")
    return Host(name=host.name, ranks=tuple(rank.rank for rank in here), link_tx_bytes=tx, link_rx_bytes=rx)
