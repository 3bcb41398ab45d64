"""What came of a run, from the files that its ranks and hosts left: the final run.json, and the lines for the user.

Every recorder rebuilds run.json when its job ends; whichever is last completes it.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from shardprof.recording.inject import AGENT_LOG
from shardprof.recording.nccl_request import LOG_WANTED
from shardprof.trace.live import live_ranks
from shardprof.trace.schema import (
    HOST_FILE,
    RANK_FILE,
    STEPS_FILE,
    HostRecord,
    Outcome,
    ProcessGroup,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    last_attempt,
    read_steps,
    read_whole,
    write_whole,
)
from shardprof.trace.undisturbed import undisturbed
from shardprof.words import numbers, plural

R = TypeVar("R")
MIN_STEPS = 5
_MOST_REWRITES = 10


def complete(run: RunFolder) -> RunRecord:
    """Rewrite run.json from what is there. OSError, ValueError or TypeError where that fails.

    What another recorder left meanwhile, whose own rewriting this one may have undone, is taken in as well.
    """
    for _ in range(_MOST_REWRITES):
        hosts = _hosts(run)
        record = _complete(run, hosts)
        if _hosts(run) == hosts:
            break
    return record


def _hosts(run: RunFolder) -> list[HostRecord]:
    return list(_read(HostRecord, [folder / HOST_FILE for folder in run.host_folders()]))


def _complete(run: RunFolder, hosts: list[HostRecord]) -> RunRecord:
    ranks = last_attempt(_read(RankRecord, [folder / RANK_FILE for folder in run.rank_folders()]))
    record = read_whole(RunRecord, run.run_file)
    versions = dict(record.versions)
    groups: dict[tuple[str, tuple[int, ...]], ProcessGroup] = {}
    for rank in ranks:
        versions |= rank.versions
        groups |= {(group.name, group.ranks): group for group in rank.process_groups}
    record = dataclasses.replace(
        record,
        versions=versions,
        hosts=tuple(host.name for host in hosts),
        ranks=tuple(rank.rank for rank in ranks),
        process_groups=tuple(groups[key] for key in sorted(groups)),
        counter_costs=tuple(cost for host in hosts for cost in host.counter_costs),
        dropped_records=sum(rank.dropped_records for rank in ranks),
        always_on_share=_always_on_share(run, ranks),
        outcome=_outcome(hosts, len(run.host_folders())),
    )
    write_whole(run.run_file, record)
    return record


def agent_notes(run: RunFolder, host: str) -> tuple[str, ...]:
    """The last line of each kind of failure that the agent logged on this host."""
    try:
        lines = (run.host(host) / AGENT_LOG).read_text().splitlines()
    except OSError:
        return ()
    texts = [json.loads(line)["text"] for line in lines if line.endswith("}")]  # a torn line does not
    return tuple(dict.fromkeys(f"in the job: {text.strip().splitlines()[-1]}" for text in texts))


def lines(run: RunFolder, record: RunRecord) -> Iterator[str]:
    """What to tell the user at the end."""
    if not record.ranks:
        yield (
            "no rank was recorded: no process joined a process group or trained with a torch.optim.Optimizer; likely "
            "it ended before training, does not use torch, or runs Python with -I or -E (see `shardprof install-hook`)"
        )
        return
    live = live_ranks(run)
    ranks = [rank.record for rank in live]
    steps = max((rank.steps[-1].step + 1 for rank in live if rank.steps), default=0)
    yield f"recorded {plural(len(ranks), 'rank')}, {plural(steps, 'step')}, {_captured(ranks)}{_cost(record)}"
    if steps == 0:
        yield "no step end was seen: if the job did train, call shardprof.step() in its loop, once a step"
    elif record.plan.repeat and not any(rank.windows for rank in ranks) and steps <= record.plan.first_step:
        captured = max(1, min(steps, record.plan.steps))
        first = max(0, min(steps, record.plan.first_step) - captured)
        yield f"the capture was to begin at step {record.plan.first_step}: try `--steps {first}:{first + captured}`"
    yield from _nccl(ranks)
    if record.dropped_records:
        yield f"{plural(record.dropped_records, 'record')} lost: {'; '.join(_notes(ranks))}"
    yield f"next: shardprof report {shlex.quote(_shown(run.root))}"


def _nccl(ranks: list[RankRecord]) -> Iterator[str]:
    """Where NCCL tells of itself by another way than was asked for."""
    whys = {rank.rank: rank.nccl_setup.why for rank in ranks if rank.nccl_setup}
    for why in dict.fromkeys(why for why in whys.values() if why and why != LOG_WANTED):
        of_ranks = [rank for rank, told in whys.items() if told == why]
        yield f"NCCL's plugin does not record on rank{'' if len(of_ranks) == 1 else 's'} {numbers(of_ranks)}: {why}"


def _captured(ranks: list[RankRecord]) -> str:
    windows = sorted({(w.first_step, w.last_step) for rank in ranks for w in rank.windows if w.profiler == "shardprof"})
    if not windows:
        return "no step captured"
    return "captured " + ", ".join(
        f"step {first}" if first == last else f"steps {first}-{last}" for first, last in windows
    )


def _notes(ranks: list[RankRecord]) -> list[str]:
    """What the ranks that lost records say about it: each note once, the first few."""
    return list(dict.fromkeys(note for rank in ranks if rank.dropped_records for note in rank.notes))[:3]


def _cost(record: RunRecord) -> str:
    if record.always_on_share is None:
        return ""
    return f"; always-on part {100 * record.always_on_share:.2f} % of step time"


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _outcome(hosts: list[HostRecord], expected: int) -> Outcome | None:
    """The job is over when every host's part is; it failed if one did."""
    outcomes = [host.outcome for host in hosts if host.outcome is not None]
    if not outcomes or len(outcomes) < expected:
        return None
    failed = [outcome.exit_code for outcome in outcomes if outcome.exit_code != 0]
    return Outcome(exit_code=failed[0] if failed else 0, ended_ns=max(outcome.ended_ns for outcome in outcomes))


def _always_on_share(run: RunFolder, ranks: list[RankRecord]) -> float | None:
    """The hooks' share of the steps that the profiler left alone; None where there are too few of them to tell."""
    alone = [step for rank in ranks for step in undisturbed(_steps(run, rank))]
    if len(alone) < MIN_STEPS:
        return None
    return sum(step.hook_ns for step in alone) / sum(step.end_ns - step.begin_ns for step in alone)


def _steps(run: RunFolder, rank: RankRecord) -> list[StepRecord]:
    return read_steps(run.rank(rank.rank) / STEPS_FILE)


def _read(record_type: type[R], paths: list[Path]) -> Iterator[R]:
    for path in paths:
        try:
            yield read_whole(record_type, path)
        except (OSError, ValueError, TypeError):
            continue  # killed before it was written
