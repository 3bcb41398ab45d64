"""The figures of a report as metrics, for Prometheus and Grafana: a text that node exporter's textfile collector reads.

It is OpenMetrics that readers of Prometheus' older text format, as node exporter is one, take as well: gauges only,
without timestamps. Values are in seconds, bytes and ratios; what was not measured has no line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from shardprof.analysis.result import GROUPS, Collective, RankSummary, Result
from shardprof.render._focus import require_whole
from shardprof.render._markup import write
from shardprof.render._view import view
from shardprof.words import numbers, printable

_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Gauge:
    """A metric, whose name ends in its unit where it has one, and its value under each set of labels."""

    name: str
    help: str
    unit: str = ""
    values: dict[_Labels, float] = field(default_factory=dict)

    def add(self, value: float | None, **labels: object) -> None:
        """Take a value. Of two under the same labels the first stays: a reader would refuse the whole text."""
        if value is not None:
            known = tuple((name, printable(str(label))) for name, label in labels.items() if label is not None)
            self.values.setdefault(known, value)

    def add_ns(self, value_ns: int | None, **labels: object) -> None:
        """Take a time."""
        self.add(None if value_ns is None else value_ns / 1e9, **labels)


def check(focus: str = "report") -> None:
    """Raises ShardprofError where a part is asked for."""
    require_whole(focus)


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write all metrics, each with the run's name as its label `run`. Raises ShardprofError as `check` does."""
    require_whole(focus)
    write(out, _lines(result))


def _lines(result: Result) -> Iterator[str]:
    run = ("run", printable(view(result).title))
    for gauges in (_of_run, _of_ranks, _of_communication, _of_volumes, _of_remarks):
        for gauge in gauges(result):
            if gauge.values:
                yield from _text(gauge, run)
    yield "# EOF"


def _text(gauge: _Gauge, run: tuple[str, str]) -> Iterator[str]:
    name = f"shardprof_{gauge.name}"
    yield f"# HELP {name} {gauge.help}"
    yield f"# TYPE {name} gauge"
    if gauge.unit:
        yield f"# UNIT {name} {gauge.unit}"
    for labels, value in gauge.values.items():
        yield f"{name}{{{','.join(map(_label, (run, *labels)))}}} {value!r}"


def _label(label: tuple[str, str]) -> str:
    name, value = label
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'{name}="{escaped}"'


def _of_run(result: Result) -> Iterator[_Gauge]:
    source, summary = result.source, result.summary
    about = _Gauge("run_info", "What the run is; always 1.")
    bound_by = summary.bound.by if summary and summary.bound else None
    about.add(1, kind=source.kind, framework=source.framework, device=source.device_name, bound_by=bound_by)
    world_size = _Gauge("world_size", "Ranks of the job.")
    world_size.add(source.world_size)
    exit_code = _Gauge("exit_code", "How the job ended, of recorded runs.")
    exit_code.add(source.exit_code)
    yield from (about, world_size, exit_code)
    if summary is None or summary.steps is None:
        return
    steps = _Gauge("captured_steps", "Captured steps that hold work, over all ranks.")
    steps.add(summary.steps.count)
    median = _Gauge("median_step_seconds", "The median captured step.", "seconds")
    median.add_ns(summary.steps.median.wall_ns)
    slowest = _Gauge("slowest_step_seconds", "The slowest captured step.", "seconds")
    slowest.add_ns(summary.steps.slowest.wall_ns)
    yield from (steps, median, slowest)


def _of_ranks(result: Result) -> Iterator[_Gauge]:
    step = _Gauge("step_seconds", "The median captured step of a rank.", "seconds")
    share = _Gauge("step_time_ratio", "What share of a rank's captured steps went to a class.", "ratio")
    for summed in result.summary.ranks if result.summary else ():
        step.add_ns(summed.step_ns, rank=summed.rank, host=summed.host)
        _add_shares(share, summed)
    recorded = _Gauge("recorded_step_seconds", "The median of the steps that the profiler left alone.", "seconds")
    phases = _Gauge("recorded_phase_seconds", "The median time of a phase in these steps.", "seconds")
    for rank in result.ranks:
        if rank.always_on:
            recorded.add_ns(rank.always_on.wall_ns, rank=rank.rank, host=rank.host)
            for phase, time_ns in rank.always_on.phases_ns.items():
                phases.add_ns(time_ns, rank=rank.rank, host=rank.host, phase=phase)
    residual = _Gauge("clock_residual_seconds", "How far a rank's clock is off after it was aligned.", "seconds")
    for clock in result.clock or ():
        residual.add_ns(clock.residual_ns, rank=clock.rank)
    yield from (step, share, recorded, phases, residual)


def _add_shares(share: _Gauge, rank: RankSummary) -> None:
    if rank.steps:
        for group in GROUPS:
            share.add(rank.share(group), rank=rank.rank, host=rank.host, **{"class": group})


def _of_communication(result: Result) -> Iterator[_Gauge]:
    over = "over all captured steps of all ranks"
    running = _Gauge("communication_seconds", f"How long communication ran, {over}.", "seconds")
    exposed = _Gauge("exposed_communication_seconds", f"How long steps waited for it, {over}.", "seconds")
    overlapped = _Gauge("overlapped_communication_seconds", f"How long it ran under compute, {over}.", "seconds")
    for kind in result.summary.steps.kinds if result.summary and result.summary.steps else ():
        running.add_ns(kind.comm_ns, kind=kind.kind)
        exposed.add_ns(kind.exposed_ns, kind=kind.kind)
        overlapped.add_ns(kind.overlapped_ns, kind=kind.kind)
    yield from (running, exposed, overlapped)
    yield from _of_collectives(result.collectives)


def _of_collectives(collectives: tuple[Collective, ...]) -> Iterator[_Gauge]:
    calls = _Gauge("collective_calls", "Collectives of a group in the captured steps.")
    payload = _Gauge("collective_payload_bytes", "Their payload.", "bytes")
    wire = _Gauge("collective_wire_bytes", "What each rank sends for them.", "bytes")
    wait = _Gauge("collective_wait_seconds", "How long a rank waited in them for the last one to come.", "seconds")
    transfer = _Gauge("collective_transfer_seconds", "How long they took from then on.", "seconds")
    busbw = _Gauge(
        "collective_bus_bandwidth_bytes_per_second", "Their bus bandwidth, as nccl-tests counts.", "bytes_per_second"
    )
    for collective in collectives:
        ranks = None if collective.ranks is None else numbers(collective.ranks, most_runs=None)
        labels = {"kind": collective.kind, "group": collective.group, "ranks": ranks}
        calls.add(collective.calls, **labels)
        payload.add(collective.payload_bytes, **labels)
        wire.add(collective.wire_bytes, **labels)
        wait.add_ns(collective.wait_ns, **labels)
        transfer.add_ns(collective.transfer_ns, **labels)
        busbw.add(None if collective.busbw_gbps is None else collective.busbw_gbps * 1e9, **labels)
    yield from (calls, payload, wire, wait, transfer, busbw)


def _of_volumes(result: Result) -> Iterator[_Gauge]:
    sent = _Gauge("step_sent_bytes", "What a rank sends in a step: measured, expected, in theory.", "bytes")
    held = _Gauge("model_state_bytes", "Memory of the model states on a rank: measured, expected.", "bytes")
    for volume in result.volumes.kinds if result.volumes else ():
        sent.add(volume.measured_bytes, kind=volume.kind, basis="measured")
        sent.add(volume.expected_bytes, kind=volume.kind, basis="expected")
        sent.add(volume.theory_bytes, kind=volume.kind, basis="theory")
    for state in result.volumes.model_states if result.volumes else ():
        held.add(state.measured_bytes, part=state.part, basis="measured")
        held.add(state.expected_bytes, part=state.part, basis="expected")
    link = _Gauge("link_bytes", "What a network interface carried while steps were captured.", "bytes")
    for host in result.source.hosts:
        for direction, carried in (("sent", host.link_tx_bytes), ("received", host.link_rx_bytes)):
            for interface, size_bytes in (carried or {}).items():
                link.add(size_bytes, host=host.name, interface=interface, direction=direction)
    yield from (sent, held, link)


def _of_remarks(result: Result) -> Iterator[_Gauge]:
    late = _Gauge("straggler_cost_seconds", "What a late rank costs a step.", "seconds")
    for straggler in result.stragglers or ():
        late.add_ns(straggler.cost_ns_per_step, rank=straggler.rank, cause=straggler.cause)
    cost = _Gauge("finding_cost_seconds", "What a change would win a step at most, the most by its rule.", "seconds")
    for found in sorted(result.findings or (), key=lambda found: -(found.cost_ns_per_step or 0)):
        cost.add_ns(found.cost_ns_per_step, rule=found.rule, severity=found.severity)
    notices = _Gauge("notices", "What counters show that slows or endangers ranks.")
    for (code, of_host), count in Counter((notice.code, notice.host) for notice in result.notices).items():
        notices.add(count, host=of_host, code=code)
    doubts = _Gauge("doubts", "What about the figures is doubtful.")
    for code, count in Counter(doubt.code for doubt in result.quality).items():
        doubts.add(count, code=code)
    yield from (late, cost, notices, doubts)
