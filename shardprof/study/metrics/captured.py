"""What the captured steps tell, from their report: what time goes to, what communication moves, who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean

from shardprof.analysis.result import Collective, Step
from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.values import MS, Measure, Value, Values, needs_gpu, or_missing
from shardprof.trace.classes import COMM_KINDS, wire_factor

_NO_SIZES = "sizes are not told"
_NO_GROUPS = "the sizes or groups of collectives are not told"
_NO_OTHERS = "no other rank's trace tells when ranks arrived"
_NO_COMM = "nothing was communicated"


def _ms_and_percent(of_step: Callable[[Step], int]) -> Measure:
    def measure(evidence: Evidence) -> Values:
        steps = evidence.captured
        spent_ns = sum(map(of_step, steps))
        return {"": spent_ns / len(steps) / MS, "percent": 100 * spent_ns / sum(step.wall_ns for step in steps)}

    return measure


def _working_ns(step: Step) -> int:
    """The union of compute and communication."""
    return step.compute_ns + step.comm_ns - step.overlap_ns


@needs_gpu
def _gpu_busy(evidence: Evidence) -> Values:
    return {"": 100 * sum(map(_working_ns, evidence.captured)) / sum(step.wall_ns for step in evidence.captured)}


def _exposed_comm(evidence: Evidence) -> Values:
    steps = evidence.captured
    kinds = [kind for kind in COMM_KINDS if any(step.partition_ns.get(kind) for step in steps)]
    of_kinds = {kind: fmean(step.partition_ns.get(kind, 0) for step in steps) / MS for kind in kinds}
    return {"": fmean(step.comm_ns - step.overlap_ns for step in steps) / MS, **of_kinds}


def _overlap_ratio(evidence: Evidence) -> Values:
    comm_ns = sum(step.comm_ns for step in evidence.captured)
    if not comm_ns:
        raise MissingError(_NO_COMM)
    return {"": 100 * sum(step.overlap_ns for step in evidence.captured) / comm_ns}


def _kinds(evidence: Evidence) -> list[str]:
    """Those that were called."""
    return [kind for kind in COMM_KINDS if any(step.comm_calls.get(kind) for step in evidence.captured)]


def _with_whole(by_kind: Mapping[str, float | None], reason: str) -> Values:
    """Kinds and their sum, which is known where all of them are."""
    known = [size for size in by_kind.values() if size is not None]
    whole: Value = sum(known) if len(known) == len(by_kind) else reason
    return {"": whole, **{kind: or_missing(size, reason) for kind, size in by_kind.items()}}


def _comm_bytes(evidence: Evidence) -> Values:
    return _with_whole({kind: _payload(evidence, kind) for kind in _kinds(evidence)}, _NO_SIZES)


def _payload(evidence: Evidence, kind: str) -> float | None:
    """Bytes a step and rank; None where the size of a call is not told."""
    if any(row.payload_bytes is None for row in _rows(evidence, kind)):
        return None
    return fmean(step.comm_bytes.get(kind) or 0 for step in evidence.captured)


def _wire_bytes(evidence: Evidence) -> Values:
    return _with_whole({kind: _wire(evidence, kind) for kind in _kinds(evidence)}, _NO_GROUPS)


def _wire(evidence: Evidence, kind: str) -> float | None:
    """Bytes a step and rank: the payload by what ranks send for a byte of it, over all groups."""
    rows = [(row.payload_bytes, row.wire_bytes, row.group_size) for row in _rows(evidence, kind)]
    payload = wire = 0
    for of_payload, of_wire, ranks in rows:
        if of_payload is None or of_wire is None or ranks is None:
            return None
        payload, wire = payload + of_payload * ranks, wire + of_wire * ranks  # a row stands for each of its ranks
    moved = _payload(evidence, kind)
    return None if moved is None else moved * wire / payload if payload else 0.0


def _rows(evidence: Evidence, kind: str) -> list[Collective]:
    return [row for row in evidence.known_report.collectives if row.kind == kind]


def _volume_ratio(evidence: Evidence) -> Values:
    _ = evidence.captured
    volumes = evidence.known_report.volumes
    if volumes is None:
        raise MissingError("one rank alone" if evidence.cell.ranks == 1 else "the strategy's settings are not told")
    reason = "bytes needed, expected or measured are not known"
    return {
        "per_theory": or_missing(volumes.total.measured_per_theory, reason),
        "per_expected": or_missing(volumes.total.measured_per_expected, reason),
    }


def _algbw(evidence: Evidence) -> Values:
    return _bandwidths(evidence, lambda _: 1.0)


def _busbw(evidence: Evidence) -> Values:
    return _bandwidths(evidence, lambda row: wire_factor(row.kind, row.group_size) if row.group_size else None)


def _bandwidths(evidence: Evidence, factor: Callable[[Collective], float | None]) -> Values:
    kinds = _kinds(evidence)
    if not kinds:
        raise MissingError(_NO_COMM)
    return {kind: _bandwidth(_rows(evidence, kind), factor) for kind in kinds}


def _bandwidth(rows: list[Collective], factor: Callable[[Collective], float | None]) -> Value:
    moved, took_ns = 0.0, 0
    for row in rows:
        times = factor(row)
        if row.transfer_ns is None:
            return _NO_OTHERS
        if row.payload_bytes is None or times is None:
            return _NO_GROUPS
        moved, took_ns = moved + row.payload_bytes * times, took_ns + row.transfer_ns
    if not took_ns:
        return "shorter than the clocks can tell"
    return moved / took_ns if moved else "it carried no bytes"


def _collective_wait(evidence: Evidence) -> Values:
    waits = _waits_ms(evidence)
    per_step = [wait for of_steps in waits.values() for wait in of_steps.values()]
    return {"": fmean(per_step), "max": max(fmean(of_steps.values()) for of_steps in waits.values())}


def _waits_ms(evidence: Evidence) -> dict[int, dict[int, float]]:
    """What each rank waited, by step. Raises MissingError."""
    _ = evidence.captured
    waits: dict[int, dict[int, float]] = {}
    for rank in evidence.known_report.ranks:
        for step in rank.steps:
            if not step.empty and step.wait_ns is not None:
                waits.setdefault(rank.rank, {})[step.step] = step.wait_ns / MS
    if not waits:
        raise MissingError(_NO_OTHERS)
    return waits


def _straggler_score(evidence: Evidence) -> Values:
    waits = _waits_ms(evidence)
    means = {rank: fmean(of_steps.values()) for rank, of_steps in waits.items()}
    longest = max(means.values())
    if len(waits) < 2 or not longest:
        raise MissingError("nobody waited" if len(waits) > 1 else _NO_OTHERS)
    last = min(means, key=lambda rank: means[rank])
    steps = {step for of_steps in waits.values() for step in of_steps}
    led = [step for step in steps if _least_waiting(waits, step) == last]
    return {"": 1 - means[last] / longest, "rank": last, "steps": 100 * len(led) / len(steps)}


def _least_waiting(waits: Mapping[int, Mapping[int, float]], step: int) -> int:
    return min((rank for rank in waits if step in waits[rank]), key=lambda rank: waits[rank][step])


@needs_gpu
def _launch_gap(evidence: Evidence) -> Values:
    return {"": fmean(step.partition_ns["launch_bound"] for step in evidence.captured) / MS}


MEASURES: dict[str, Measure] = {
    "gpu_busy": _gpu_busy,
    "compute_only": _ms_and_percent(lambda step: step.compute_ns - step.overlap_ns),
    "comm_only": _ms_and_percent(lambda step: step.comm_ns - step.overlap_ns),
    "overlap": _ms_and_percent(lambda step: step.overlap_ns),
    "idle": _ms_and_percent(lambda step: step.wall_ns - _working_ns(step)),
    "exposed_comm": _exposed_comm,
    "overlap_ratio": _overlap_ratio,
    "comm_bytes_by_op": _comm_bytes,
    "wire_bytes": _wire_bytes,
    "volume_ratio": _volume_ratio,
    "algbw": _algbw,
    "busbw": _busbw,
    "collective_wait": _collective_wait,
    "launch_gap": _launch_gap,
    "straggler_score": _straggler_score,
}
