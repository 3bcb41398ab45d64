"""What the records of every step tell: how long steps took, and the most that torch's allocator held."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.values import GIB, MS, Measure, Value, Values, most, needs_gpu

_NOT_TOLD = "torch's allocator told nothing"


def step_time(evidence: Evidence) -> Values:
    """Percentiles of counted steps, interpolated linearly, in milliseconds."""
    p50, p95, longest = np.percentile(evidence.counted_ms, (50, 95, 100)).tolist()
    return {"p50": p50, "p95": p95, "max": longest}


def throughput(evidence: Evidence) -> Values:
    """Samples and tokens a second."""
    whole = samples_per_s(evidence)
    of_rank = whole / evidence.cell.ranks
    tokens: Value
    try:
        tokens = of_rank * evidence.fact("tokens_per_sample")
    except MissingError as error:
        tokens = str(error)
    return {"samples_per_s": whole, "samples_per_s_per_rank": of_rank, "tokens_per_s_per_rank": tokens}


def samples_per_s(evidence: Evidence) -> float:
    """Of the whole job. Raises MissingError."""
    return evidence.cell.global_batch / float(np.median(evidence.counted_ms)) * 1e3


def _epoch_time(evidence: Evidence) -> Values:
    return {"": evidence.fact("train_images") / samples_per_s(evidence)}


def _train_time(evidence: Evidence) -> Values:
    started_ns = evidence.fact("started_ns")
    if "ended_ns" not in evidence.learning.workload:
        raise MissingError("the training did not come to its end")
    return {"": (evidence.fact("ended_ns") - started_ns) / 1e9}


def _data_wait(evidence: Evidence) -> Values:
    seen = [record for records in evidence.counted for record in records if record.data_ns is not None]
    if not seen:
        raise MissingError("no DataLoader was seen")
    waited_ns = sum(record.data_ns or 0 for record in seen)
    walls_ns = sum(record.end_ns - record.begin_ns - record.hook_ns for record in seen)
    return {"": waited_ns / len(seen) / MS, "percent": 100 * waited_ns / walls_ns}


def _optimizer_time(evidence: Evidence) -> Values:
    times_ns = [record.optimizer_ns for records in evidence.counted for record in records]
    seen = [time_ns for time_ns in times_ns if time_ns is not None]
    if not seen:
        raise MissingError("no optimizer was seen")
    return {"": fmean(seen) / MS}


def _peak(name: str) -> Measure:
    @needs_gpu
    def peak(evidence: Evidence) -> Values:
        told = [step.cuda_memory.get(name) for rank in evidence.ranks for step in rank.steps]
        return {"": most([size for size in told if size is not None], _NOT_TOLD) / GIB}

    return peak


@needs_gpu
def _fragmentation(evidence: Evidence) -> Values:
    last = [rank.steps[-1].cuda_memory for rank in evidence.ranks if rank.steps]
    unused = [
        1 - memory["peak_active_bytes"] / memory["peak_reserved_bytes"]
        for memory in last
        if "peak_active_bytes" in memory and memory.get("peak_reserved_bytes")
    ]
    return {"": 100 * most(unused, _NOT_TOLD)}


def _more_a_step(name: str) -> Measure:
    """By how much a total of torch's allocator grew after the warm-up."""

    @needs_gpu
    def more_a_step(evidence: Evidence) -> Values:
        warm_up = evidence.length.warm_up
        grown = []
        for rank in evidence.ranks:
            told = [(step.step, step.cuda_memory[name]) for step in rank.steps if name in step.cuda_memory]
            before = [total for step, total in told if step < warm_up]
            after = [total for step, total in told if step >= warm_up]
            grown += [(after[-1] - (before[-1] if before else 0)) / len(after)] if after else []
        return {"": most(grown, _NOT_TOLD)}

    return more_a_step


MEASURES: dict[str, Measure] = {
    "step_time": step_time,
    "throughput": throughput,
    "epoch_time": _epoch_time,
    "train_time": _train_time,
    "gpu_mem_allocated_peak": _peak("peak_allocated_bytes"),
    "active_peak": _peak("peak_active_bytes"),
    "gpu_mem_reserved_peak": _peak("peak_reserved_bytes"),
    "fragmentation": _fragmentation,
    "alloc_retries": _more_a_step("alloc_retries"),
    "ooms": _more_a_step("ooms"),
    "data_wait": _data_wait,
    "optimizer_time": _optimizer_time,
}
