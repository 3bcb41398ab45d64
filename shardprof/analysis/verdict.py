"""What bounds this run, in one sentence with its figure: a user's first question."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from shardprof.analysis.result import AlwaysOn, Result
from shardprof.analysis.summary import Steps, Summary
from shardprof.analysis.words import class_name, enumeration, percent

_BOUND_OF_COMPUTE = 0.4
"""A loss bounds a run where it takes at least this much of what compute takes: more can be won there than by faster
kernels. The largest such loss is named; without one, compute takes a third or more of the time and bounds the run."""
_DATA_BOUND_SHARE = 0.25
_WORTH_A_CLAUSE = 0.1
_LEADING_KIND = 0.15
"""A kind of communication is named where it has this share of what is waited for."""

_PHASE_WORDS = {"data": "data loading", "forward": "forward", "backward": "backward", "optimizer": "the optimizer"}
PHASES = tuple(_PHASE_WORDS)
"""The phases that are recorded of every step."""

_TITLES = {
    "compute": "Compute-bound",
    "communication": "Communication-bound",
    "copies": "Copy-bound",
    "data_loading": "Data-bound",
    "launch_bound": "Launch-bound",
    "idle": "Mostly idle",
}


def verdict(result: Result, summary: Summary) -> str:
    """The sentence. Where nothing was captured it rests on the records of every step, and says so."""
    if summary.steps is not None:
        return _of_steps(summary.steps, summary)
    if any(rank.steps for rank in result.ranks):
        return "Nothing to explain: no captured step holds any work."
    recorded = [rank.always_on for rank in result.ranks if rank.always_on]
    if recorded:
        return _of_records(recorded)
    return "Nothing to explain: the trace holds no operators and no device activities."


def _of_steps(steps: Steps, summary: Summary) -> str:
    ordered = sorted(steps.groups_ns, key=lambda group: -steps.groups_ns[group])
    losses = [group for group in ordered if group != "compute"]
    bound = steps.share(losses[0]) >= _BOUND_OF_COMPUTE * steps.share("compute")
    first = losses[0] if bound else "compute"
    rest = [group for group in ordered if group != first and steps.share(group) >= _WORTH_A_CLAUSE]
    more = [_overlap_clause(steps)] if first == "communication" else []
    more += [_short_clause(group, steps) for group in rest[: 2 - len(more)]]
    return f"{_TITLES[first]}: {'; '.join([_main_clause(first, steps, summary), ', '.join(more)]).rstrip('; ')}."


def _main_clause(group: str, steps: Steps, summary: Summary) -> str:
    share = f"{percent(steps.share(group))} of {'the trace' if summary.window == 'trace' else 'a step'}"
    on_cpu = "for " + share + " no operator, transfer or data loading runs"
    return {
        "compute": f"{share} computes" + ("" if summary.on_gpu else " (operators on the CPU)"),
        "communication": f"{share} waits for {_leading_kinds(steps)}",
        "copies": f"{share} only copies or sets memory",
        "data_loading": f"{share} waits for the DataLoader",
        "launch_bound": f"for {share} the GPU waits for the CPU to launch work",
        "idle": f"for {share} nothing runs on the GPU" if summary.on_gpu else on_cpu,
    }[group]


def _short_clause(group: str, steps: Steps) -> str:
    words = {
        "compute": "computes",
        "communication": f"waits for {_leading_kinds(steps)}",
        "copies": "copies or sets memory",
        "data_loading": "waits for the DataLoader",
        "launch_bound": "waits for launches",
        "idle": "is idle",
    }
    return f"{percent(steps.share(group))} {words[group]}"


def _overlap_clause(steps: Steps) -> str:
    if not steps.overlap_ns:
        return "nothing of it is overlapped"
    return f"{percent(steps.overlapped_share)} of all communication is overlapped"


def _leading_kinds(steps: Steps) -> str:
    waited_ns = sum(kind.exposed_ns for kind in steps.kinds)
    ordered = sorted(steps.kinds, key=lambda kind: -kind.exposed_ns)
    return enumeration([class_name(k.kind) for k in ordered if k.exposed_ns >= _LEADING_KIND * waited_ns])


def _of_records(recorded: Sequence[AlwaysOn]) -> str:
    step_ns = median(record.wall_ns for record in recorded)
    known = {p: [time_ns for record in recorded if (time_ns := phase_ns(record, p)) is not None] for p in PHASES}
    shares = {phase: median(values) / step_ns for phase, values in known.items() if values and step_ns}
    if shares.get("data", 0.0) >= _DATA_BOUND_SHARE:
        return f"Data-bound: {percent(shares['data'])} of a step waits for the DataLoader; no step was captured."
    told = enumeration([f"{percent(share)} in {_PHASE_WORDS[phase]}" for phase, share in shares.items()])
    return f"No step was captured; a step spends {told} on the main thread." if told else "No step was captured."


def phase_ns(record: AlwaysOn, phase: str) -> int | None:
    """The median time of one of PHASES; None where it was not seen."""
    time_ns: int | None = getattr(record, f"{phase}_ns")
    return time_ns
