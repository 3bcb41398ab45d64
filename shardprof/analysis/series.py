"""How a run went over time: how long its steps were and what its counters showed, few enough points to be drawn.

Of long series the smallest and the largest sample of each stretch of time are kept: what they show was measured, and
no peak is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.nodes import Nodes
from shardprof.analysis.result import Series, Summary
from shardprof.engine import Int64s
from shardprof.trace import counters
from shardprof.trace.counters import Float64s
from shardprof.trace.run import HostFolder, RankTraces, Run
from shardprof.trace.schema import gpu_of

MOST_POINTS = 300
_MOST_HOSTS = 8

_OF_NODES = ("cpu_percent", "memory_used_bytes")
_OF_RANKS = ("rss_bytes",)
_OF_GPUS = (
    "memory_used_bytes", "utilization_percent", "sm_active_percent", "tensor_active_percent", "dram_bandwidth_percent",
    "sm_clock_mhz", "power_w", "temperature_c", "nvlink_tx_bytes", "nvlink_rx_bytes", "nvlink_tx_bytes_per_s",
    "nvlink_rx_bytes_per_s",
)  # fmt: skip
_OF_LINKS = ("tx_bytes", "rx_bytes")
_OF_ALLOCATOR = ("allocated_bytes", "reserved_bytes", "peak_allocated_bytes")


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whose counters they are."""

    host: str
    subject: str
    rank: int | None


def series(run: Run, summary: Summary, nodes: Nodes) -> tuple[Series, ...]:
    """Those of the ranks that a summary names, of their GPUs and hosts; none where nothing was recorded."""
    named = {rank.rank for rank in summary.ranks if rank.remark} or {rank.rank for rank in summary.ranks}
    recorded = list(run.recorded(named))
    found = [of_step for traces in recorded for of_step in _of_steps(traces)]
    told = [host for host in run.hosts if any(traces.host == host.name for traces in recorded)]
    for host in told[:_MOST_HOSTS]:
        found += _of_host(host, nodes.counters(host.name), recorded)
    return tuple(found)


def _of_steps(traces: RankTraces) -> Iterator[Series]:
    """How long each recorded step was, and what torch's allocator held when it had ended."""
    subject = _Subject(str(traces.host), f"rank {traces.rank}", traces.rank)
    samples = {"step_ns": [(step.end_ns, step.end_ns - step.begin_ns) for step in traces.steps]}
    for name in _OF_ALLOCATOR:
        samples[name] = [(step.end_ns, step.cuda_memory[name]) for step in traces.steps if name in step.cuda_memory]
    for name, pairs in samples.items():
        if pairs:
            times_ns, values = np.array(pairs, dtype=np.int64).T
            yield _series(subject, name, times_ns, values.astype(np.float64))


def _of_host(host: HostFolder, counted: counters.Counters, recorded: Sequence[RankTraces]) -> Iterator[Series]:
    """What its node, its links, and its ranks with their GPUs showed."""
    here = [traces.record for traces in recorded if traces.host == host.name and traces.record]
    ranks = {f"rank {record.rank}": record.rank for record in here}
    gpus = {gpu_of(host.record, record): record.rank for record in here} if host.record else {}
    for name, of_subject in counted.series.items():
        subject = _Subject(host.name, name, ranks.get(name, gpus.get(name)))
        wanted = _OF_RANKS if name in ranks else _OF_GPUS if name in gpus else _OF_NODES if name == "node" else ()
        wanted = wanted or (() if name.startswith(("rank ", "gpu ")) else _OF_LINKS)
        yield from (_of_counter(subject, of_subject[name]) for name in wanted if _is_telling(of_subject, name))


def _is_telling(of_subject: Mapping[str, counters.Series], name: str) -> bool:
    """There are samples; and of a total differences, some of which are not nothing."""
    series = of_subject.get(name)
    return series is not None and (not series.is_total or bool(series.rates().any()))


def _of_counter(subject: _Subject, counter: counters.Series) -> Series:
    if counter.is_total:
        return _series(subject, f"{counter.name}_per_s", counter.times_ns[1:], counter.rates())
    return _series(subject, counter.name, counter.times_ns, counter.values)


def _series(subject: _Subject, name: str, times_ns: Int64s, values: Float64s) -> Series:
    kept = kept_points(times_ns, values)
    return Series(
        host=subject.host,
        subject=subject.subject,
        rank=subject.rank,
        name=name,
        times_ns=tuple(times_ns[kept].tolist()),
        values=tuple(values[kept].tolist()),
    )


def kept_points(times_ns: Int64s, values: Float64s) -> Int64s:
    """Which samples, whose times ascend, are kept: all, or of each of 150 equal stretches the least and the most."""
    if len(times_ns) <= MOST_POINTS:
        return np.arange(len(times_ns))
    since_ns = times_ns - times_ns[0]
    stretch = since_ns // (since_ns[-1] // (MOST_POINTS // 2) + 1)
    order = np.lexsort((values, stretch))
    ends = np.flatnonzero(np.diff(stretch[order], prepend=-1, append=-1))
    return np.unique(np.concatenate((order[ends[:-1]], order[ends[1:] - 1])))
