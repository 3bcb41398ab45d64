"""Samples of counters over counted time: the steps that count, as far as samples reach around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.values import NO_GPU
from shardprof.trace.counters import Float64s, Int64s, Series
from shardprof.trace.run import RankTraces

NOT_SAMPLED = "not sampled while steps were counted"
Sampled: TypeAlias = tuple[RankTraces, Series]
"""A series, and the rank whose counted time it is looked at in."""


def of_ranks(evidence: Evidence, name: str) -> list[Sampled]:
    """A counter of each rank's process. Raises MissingError where no rank has it."""
    return _known(evidence, [(rank, str(rank.host), f"rank {rank.rank}") for rank in evidence.ranks], name)


def of_gpus(evidence: Evidence, name: str) -> list[Sampled]:
    """A counter of each GPU of the job, with a rank that computes on it. Raises MissingError where none has it."""
    if not evidence.on_gpu:
        raise MissingError(NO_GPU)
    if not evidence.gpus:
        raise MissingError("NVML told nothing of the job's GPUs")
    return _known(evidence, [(rank, gpu.host, gpu.subject) for gpu, rank in evidence.gpus.items()], name)


def _known(evidence: Evidence, subjects: Sequence[tuple[RankTraces, str, str]], name: str) -> list[Sampled]:
    found = []
    for rank, host, subject in subjects:
        counters = evidence.counters.get(host)
        series = counters.series.get(subject, {}) if counters else {}
        found += [(rank, series[name])] if name in series else []
    if not found:
        raise MissingError("no NVLink" if name.startswith("nvlink") else f"{name} was not sampled")
    return found


def counted_spans(evidence: Evidence, rank: RankTraces) -> tuple[Int64s, Int64s]:
    """Begins and ends of the counted steps of a rank, on its own clock. Raises MissingError where none counts."""
    records = evidence.counted[evidence.ranks.index(rank)]
    spans = np.array([(record.begin_ns, record.end_ns) for record in records], dtype=np.int64).reshape(-1, 2)
    return spans[:, 0], spans[:, 1]


def per_second(series: Series, begins_ns: Int64s, ends_ns: Int64s) -> float | None:
    """The mean of a state over spans of time, the increase a second of a total; None where no sample tells.

    Spans are cut to the time from the first sample to the last.
    """
    if not len(series.times_ns):
        return None
    begins_ns, ends_ns = np.maximum(begins_ns, series.times_ns[0]), np.minimum(ends_ns, series.times_ns[-1])
    begins_ns, ends_ns = begins_ns[begins_ns < ends_ns], ends_ns[begins_ns < ends_ns]
    seconds: Float64s = (ends_ns - begins_ns) / 1e9
    if not len(seconds):
        return None
    told = series.over(begins_ns, ends_ns)
    whole = told.sum() if series.is_total else (told * seconds).sum()
    return float(whole / seconds.sum())


def rates(evidence: Evidence, known: Sequence[Sampled]) -> list[float]:
    """`per_second` of each over its rank's counted time. Raises MissingError where no sample tells any."""
    told = [per_second(series, *counted_spans(evidence, rank)) for rank, series in known]
    found = [rate for rate in told if rate is not None]
    if not found:
        raise MissingError(NOT_SAMPLED)
    return found


def while_counted(evidence: Evidence, rank: RankTraces, series: Series) -> Float64s:
    """The samples inside a rank's counted steps."""
    begins_ns, ends_ns = counted_spans(evidence, rank)
    inside = np.zeros(len(series.times_ns), dtype=np.bool_)
    for begin_ns, end_ns in zip(begins_ns.tolist(), ends_ns.tolist(), strict=True):
        inside |= (series.times_ns >= begin_ns) & (series.times_ns < end_ns)
    return series.values[inside]
