"""What a job is doing at this moment: each rank's place, its last steps, its node's counters, and who is behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from shardprof.analysis.result import GROUPS, Result
from shardprof.trace.counters import Counters, counters_of
from shardprof.trace.live import LiveHost, LiveRank
from shardprof.trace.schema import StepRecord
from shardprof.words import plural

LATE_SHARE = 0.05
STUCK_STEPS = 10
STUCK_NS = 10_000_000_000
OWN_PHASES = ("data", "other")
"""What a rank does without waiting for others: the rest of a step may be waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankNow:
    """One rank: the phase it is in and for how long, medians of its last steps, its counters of now.

    `phases_ns` has "data", "forward", "backward", "optimizer" where they were seen, and "other". `counters` are states
    as they are and totals as their increase a second, those of its GPU with "gpu_" before the name. `remark` says how
    it is behind, "" where it is not.
    """

    rank: int
    host: str
    step: int
    phase: str
    phase_ns: int
    step_ns: int | None
    phases_ns: Mapping[str, int]
    counters: Mapping[str, float]
    remark: str = ""


def ranks_now(ranks: Sequence[LiveRank], hosts: Sequence[LiveHost], now_ns: int) -> list[RankNow]:
    """Every rank, and who is behind."""
    counters = {host.record.name: counters_of(host.counters) for host in hosts}
    gpus = {device.uuid: device.subject for host in hosts for device in host.record.devices}
    found = [
        _rank_now(rank, counters.get(rank.record.host), gpus.get(rank.record.device_uuid or ""), now_ns)
        for rank in ranks
    ]
    return [_with_remark(rank, found) for rank in found]


def captured_shares(result: Result, first_step: int, last_step: int) -> dict[str, float]:
    """What the time of these steps went to on all ranks, by group of classes, as shares of 1; empty without them."""
    steps = [step for rank in result.ranks for step in rank.steps if first_step <= step.step <= last_step]
    total_ns = sum(step.wall_ns for step in steps)
    sums = {group: sum(step.partition_ns[c] for step in steps for c in classes) for group, classes in GROUPS.items()}
    return {group: time_ns / total_ns for group, time_ns in sums.items()} if total_ns else {}


def node_now(host: LiveHost) -> dict[str, dict[str, float]]:
    """The counters of a node and its interfaces now, by subject; of ranks and GPUs none."""
    counters = counters_of(host.counters)
    subjects = [subject for subject in counters.series if not subject.startswith(("rank ", "gpu "))]
    return {subject: _latest(counters, subject) for subject in subjects}


def _rank_now(rank: LiveRank, counters: Counters | None, gpu: str | None, now_ns: int) -> RankNow:
    steps = rank.steps[1:] or rank.steps  # the first one of them all pays for starting up
    step_ns = round(median(step.end_ns - step.begin_ns for step in steps)) if steps else None
    known = _latest(counters, f"rank {rank.record.rank}") if counters else {}
    of_gpu = _latest(counters, gpu) if counters and gpu else {}
    return RankNow(
        rank=rank.record.rank,
        host=rank.record.host,
        step=rank.step,
        phase=rank.place.phase if rank.place else "",
        phase_ns=max(0, now_ns - rank.place.since_ns) if rank.place else 0,
        step_ns=step_ns,
        phases_ns=_phases(steps, step_ns) if step_ns is not None else {},
        counters=known | {f"gpu_{name}": value for name, value in of_gpu.items()},
    )


def _phases(steps: Sequence[StepRecord], step_ns: int) -> dict[str, int]:
    phases = {}
    for phase in ("data", "forward", "backward", "optimizer"):
        times = [time for step in steps if (time := getattr(step, f"{phase}_ns")) is not None]
        if times:
            phases[phase] = round(median(times))
    return phases | {"other": max(0, step_ns - sum(phases.values()))}


def _with_remark(rank: RankNow, all_ranks: Sequence[RankNow]) -> RankNow:
    ahead = max(other.step for other in all_ranks) - rank.step
    if rank.phase == "ended":
        remark = "ended"
    elif rank.step_ns is not None and rank.phase_ns > max(STUCK_STEPS * rank.step_ns, STUCK_NS):
        remark = f"no progress for {rank.phase_ns / 1e9:.0f} s"
    elif ahead > 1:  # of one that only looks so, the line is older
        remark = f"{plural(ahead, 'step')} behind"
    else:
        remark = _late(rank, all_ranks)
    return replace(rank, remark=remark)


def _late(rank: RankNow, all_ranks: Sequence[RankNow]) -> str:
    """A rank that does longer what it does alone keeps the others waiting."""
    for phase in OWN_PHASES:
        usual = median(other.phases_ns.get(phase, 0) for other in all_ranks)
        late_ns = rank.phases_ns.get(phase, 0) - usual
        if rank.step_ns and len(all_ranks) > 1 and late_ns > LATE_SHARE * rank.step_ns:
            return f"{phase} {late_ns / 1e6:+,.0f} ms"
    return ""


def _latest(counters: Counters, subject: str) -> dict[str, float]:
    latest = {}
    for name, series in counters.series.get(subject, {}).items():
        if not series.is_total:
            latest[name] = float(series.values[-1])
        elif len(series.values) > 1:
            latest[name] = float(series.rates()[-1])
    return latest
