"""What the counters of processes, networks and GPUs tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from statistics import fmean

from shardprof.study.metrics import sampled
from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.sampled import Sampled
from shardprof.study.metrics.values import GIB, Measure, Values
from shardprof.trace.counters import Counters

_SLOWING = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Of NVML's reasons for lower clocks those that slow down what is asked for."""
_GB = 1e9
_PERCENT = 0.01

_Subjects = Callable[[Evidence, str], list[Sampled]]


def _mean_rate(subjects: _Subjects, *names: str, per: float = 1.0) -> Measure:
    """In counted time, of the first of these counters that is there, in the mean of the ranks or GPUs."""

    def measure(evidence: Evidence) -> Values:
        return {"": fmean(sampled.rates(evidence, _first_known(evidence, subjects, names))) / per}

    return measure


def _first_known(evidence: Evidence, subjects: _Subjects, names: Sequence[str]) -> list[Sampled]:
    for name in names[:-1]:
        try:
            return subjects(evidence, name)
        except MissingError:
            continue
    return subjects(evidence, names[-1])


def _most_sampled(name: str, per: float = 1.0) -> Measure:
    """At any sample, on the rank that has most."""

    def measure(evidence: Evidence) -> Values:
        return {"": max(float(series.values.max()) for _, series in sampled.of_ranks(evidence, name)) / per}

    return measure


def _gpu_mem_nvml(evidence: Evidence) -> Values:
    grown = []
    for rank, series in sampled.of_gpus(evidence, "memory_used_bytes"):
        if rank.record and series.times_ns[0] < rank.record.started_ns:
            grown.append(float(series.values.max() - series.values[0]))
    if not grown:
        raise MissingError("nothing was sampled before the job's processes came")
    return {"": max(grown) / GIB}


def _per_step(subjects: _Subjects, *names: str) -> Measure:
    """What these totals grow by together in a step of mean length, in the mean of the ranks or GPUs."""

    def measure(evidence: Evidence) -> Values:
        per_second = sum(fmean(sampled.rates(evidence, subjects(evidence, name))) for name in names)
        return {"": per_second * fmean(evidence.counted_ms) / 1e3}

    return measure


def _nic(name: str) -> Measure:
    def measure(evidence: Evidence) -> Values:
        told = [_node_rate(evidence, host, counters, name) for host, counters in evidence.counters.items()]
        known = [rate for rate in told if rate is not None]
        if len(known) < len(told):
            raise MissingError(sampled.NOT_SAMPLED)
        return {"": fmean(known) / _GB}

    return measure


def _node_rate(evidence: Evidence, host: str, counters: Counters, name: str) -> float | None:
    """Bytes a second over a node's links, in the counted time of one of its ranks."""
    rank = next((rank for rank in evidence.ranks if rank.host == host), None)
    links = {subject: series[name] for subject, series in counters.series.items() if name in series and subject != "lo"}
    ports = {subject: series for subject, series in links.items() if "/" in subject}
    if rank is None:
        return None
    told = [sampled.per_second(series, *sampled.counted_spans(evidence, rank)) for series in (ports or links).values()]
    known = [rate for rate in told if rate is not None]
    return sum(known) if known else None


def _sm_clock(evidence: Evidence) -> Values:
    known = sampled.of_gpus(evidence, "sm_clock_mhz")
    lowest = [values.min() for rank, series in known if len(values := sampled.while_counted(evidence, rank, series))]
    return {
        "": fmean(sampled.rates(evidence, known)),
        "min": float(min(lowest)) if lowest else sampled.NOT_SAMPLED,
    }


def _throttle_reasons(evidence: Evidence) -> Values:
    known = sampled.of_gpus(evidence, "throttle_reasons")
    samples = [int(value) for rank, series in known for value in sampled.while_counted(evidence, rank, series)]
    if not samples:
        raise MissingError(sampled.NOT_SAMPLED)
    return {"": float(reduce(or_, samples) & _SLOWING)}


MEASURES: dict[str, Measure] = {
    "gpu_util_time": _mean_rate(sampled.of_gpus, "utilization_percent"),
    "nic_rx": _nic("rx_bytes"),
    "nic_tx": _nic("tx_bytes"),
    "nvlink_rx": _mean_rate(sampled.of_gpus, "nvlink_rx_bytes", "nvlink_rx_bytes_per_s", per=_GB),
    "nvlink_tx": _mean_rate(sampled.of_gpus, "nvlink_tx_bytes", "nvlink_tx_bytes_per_s", per=_GB),
    "pcie_rx": _mean_rate(sampled.of_gpus, "pcie_rx_bytes", "pcie_rx_bytes_per_s", per=_GB),
    "pcie_tx": _mean_rate(sampled.of_gpus, "pcie_tx_bytes", "pcie_tx_bytes_per_s", per=_GB),
    "gpu_mem_nvml": _gpu_mem_nvml,
    "cpu_rss": _most_sampled("rss_bytes", GIB),
    "cpu_uss": _most_sampled("uss_bytes", GIB),
    "proc_count": _most_sampled("processes"),
    "thread_count": _most_sampled("threads"),
    "ctx_switches": _per_step(sampled.of_ranks, "voluntary_context_switches", "involuntary_context_switches"),
    "cpu_util_main_thread": _mean_rate(sampled.of_ranks, "main_thread_cpu_s", per=_PERCENT),
    "power": _mean_rate(sampled.of_gpus, "power_w"),
    "energy_per_step": _per_step(sampled.of_gpus, "energy_j"),
    "sm_clock": _sm_clock,
    "throttle_reasons": _throttle_reasons,
}
