"""Asks the ranks of a running job to capture steps: the same on all of them, so late enough for the last to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from shardprof.errors import ShardprofError
from shardprof.recording import identity, node
from shardprof.recording.rank.schedule import WARMUP_STEPS, first_free_step
from shardprof.trace.live import LiveRank, live_hosts, live_ranks
from shardprof.trace.place import ENDED
from shardprof.trace.request import Request, read_request, write_request
from shardprof.trace.schema import RunFolder, RunRecord, read_whole

LEAD_S = 2.0  # the ranks look twice a second
FAR_LEAD_S = 90.0  # what other nodes write is seen late on shared storage: NFS keeps what it knows for a minute
UNKNOWN_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Steps that were asked for: of which ranks, and when about they begin."""

    run: RunFolder
    request: Request
    ranks: tuple[int, ...]
    in_s: float

    def __str__(self) -> str:
        first, last = self.request.first_step, self.request.first_step + self.request.steps - 1
        return f"step {first}" if first == last else f"steps {first}-{last}"

    def missing(self) -> tuple[list[int], bool]:
        """The ranks that have not captured the steps, and whether none of them can do so any more."""
        last = self.request.first_step + self.request.steps - 1
        missing = [rank for rank in live_ranks(self.run) if rank.record.rank in self.ranks and not self._has(rank)]
        hopeless = [rank for rank in missing if _is_over(rank) or rank.step > last + WARMUP_STEPS]
        is_over = len(hopeless) == len(missing) or not _is_running(self.run)
        return [rank.record.rank for rank in missing], is_over

    def _has(self, rank: LiveRank) -> bool:
        return any(window.first_step == self.request.first_step for window in rank.record.windows)


def ask(run: RunFolder, steps: int) -> Asked:
    """Ask all ranks for `steps` steps. Raises ShardprofError where the job is over or is capturing already."""
    ranks = [rank for rank in live_ranks(run) if not _is_over(rank)]
    if not _is_running(run):
        raise ShardprofError(f"the job of {run.root} is over", "see what was recorded: shardprof report")
    if not ranks:
        raise ShardprofError(f"no rank of {run.root} trains yet", "try again when it does: shardprof top shows it")
    before = read_request(run.root)
    now = max(rank.step for rank in ranks)
    if now < before.first_step + before.steps:
        pending = Asked(run, before, (), 0)
        raise ShardprofError(f"{pending} are asked for already", f"the job is in step {now}: try again after them")
    step_s = _step_s(ranks)
    lead_s = LEAD_S if _is_on_this_node(run) else FAR_LEAD_S
    earliest = now + 1 + max(WARMUP_STEPS, math.ceil(lead_s / step_s))
    first = first_free_step(read_whole(RunRecord, run.run_file).plan, earliest, steps)
    request = Request(before.number + 1, first, steps)
    write_request(run.root, request)
    return Asked(run, request, tuple(rank.record.rank for rank in ranks), (first - now) * step_s)


def _step_s(ranks: Sequence[LiveRank]) -> float:
    times = [step.end_ns - step.begin_ns for rank in ranks for step in rank.steps]
    return median(times) / 1e9 if times else UNKNOWN_STEP_S


def _is_running(run: RunFolder) -> bool:
    return any(node.is_alive(folder) for folder in run.host_folders())


def _is_on_this_node(run: RunFolder) -> bool:
    return {host.record.identity for host in live_hosts(run)} == {identity.of_node()}


def _is_over(rank: LiveRank) -> bool:
    return rank.place is not None and rank.place.phase == ENDED
