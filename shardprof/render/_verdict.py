"""What bounds this run, in one sentence with its figure: a user's first question."""

from __future__ import annotations

from collections import Counter

from shardprof.analysis.result import Bound, Nccl, Result, StepsSummary, Summary
from shardprof.render._nccl import FLIGHT_RECORDER
from shardprof.render._words import PHASE_NAMES, percent
from shardprof.trace.classes import class_name
from shardprof.words import enumeration, numbers, plural

_LEADING_KIND = 0.15
"""A kind of communication is named where it has this share of what is waited for."""
_MOST_CLAUSES = 2
_MUCH = 0.05

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
        return f"{_of_steps(summary.steps, summary)}{_late_clause(result, summary.steps)}"
    if any(rank.steps for rank in result.ranks):
        return "Nothing to explain: no captured step holds any work."
    if any(rank.always_on for rank in result.ranks):
        return _of_records(summary)
    if result.nccl is not None:
        return _of_nccl(result.nccl)
    return "Nothing to explain: the trace holds no operators and no device activities."


def _of_steps(steps: StepsSummary, summary: Summary) -> str:
    bound = summary.bound
    if bound is None:
        return _of_the_cpu_side(steps, summary)
    more = [_overlap_clause(steps)] if bound.by == "communication" else []
    more += [_short_clause(group, share, steps) for group, share in bound.others.items()]
    clauses = "; ".join([_main_clause(bound, steps, summary), ", ".join(more[:_MOST_CLAUSES])])
    return f"{_TITLES[bound.by]}: {clauses.rstrip('; ')}."


def _late_clause(result: Result, steps: StepsSummary) -> str:
    """Who keeps the others waiting, where that is much of a step."""
    step_ns = sum(steps.groups_ns.values()) / steps.count
    late = [straggler for straggler in result.stragglers or () if straggler.cost_ns_per_step >= _MUCH * step_ns]
    if not late:
        return ""
    first, *others = late
    named = f"Rank {first.rank} keeps" if not others else f"Ranks {numbers(s.rank for s in late)} keep"
    return f" {named} the others waiting, up to {percent(first.cost_ns_per_step / step_ns)} of a step."


def _of_the_cpu_side(steps: StepsSummary, summary: Summary) -> str:
    share = _share_words(steps.share("compute"), summary)
    launches = f"for {share} operators run there, but in a job on GPUs they launch work rather than do it"
    return f"Only the CPU's side was recorded: {launches}; what the GPUs did is not known."


def _share_words(share: float, summary: Summary) -> str:
    return f"{percent(share)} of {'the trace' if summary.window == 'trace' else 'a step'}"


def _main_clause(bound: Bound, steps: StepsSummary, summary: Summary) -> str:
    share = _share_words(bound.share, summary)
    on_cpu = "for " + share + " no operator, transfer or data loading runs"
    return {
        "compute": f"{share} computes" + ("" if summary.on_gpu else " (operators on the CPU)"),
        "communication": f"{share} waits for {_leading_kinds(steps)}",
        "copies": f"{share} only copies or sets memory",
        "data_loading": f"{share} waits for the DataLoader",
        "launch_bound": f"for {share} the GPU waits for the CPU to launch work",
        "idle": f"for {share} nothing runs on the GPU" if summary.on_gpu else on_cpu,
    }[bound.by]


def _short_clause(group: str, share: float, steps: StepsSummary) -> str:
    words = {
        "compute": "computes",
        "communication": f"waits for {_leading_kinds(steps)}",
        "copies": "copies or sets memory",
        "data_loading": "waits for the DataLoader",
        "launch_bound": "waits for launches",
        "idle": "is idle",
    }
    return f"{percent(share)} {words[group]}"


def _overlap_clause(steps: StepsSummary) -> str:
    if not steps.overlap_ns:
        return "nothing of it is overlapped"
    return f"{percent(steps.overlapped_share)} of all communication is overlapped"


def _leading_kinds(steps: StepsSummary) -> str:
    waited_ns = sum(kind.exposed_ns for kind in steps.kinds)
    ordered = sorted(steps.kinds, key=lambda kind: -kind.exposed_ns)
    return enumeration([class_name(k.kind) for k in ordered if k.exposed_ns >= _LEADING_KIND * waited_ns])


def _of_nccl(nccl: Nccl) -> str:
    """Where there is nothing but NCCL's own account."""
    calls = sum(row.calls for row in nccl.calls)
    times_ns = Counter[str]()
    for row in nccl.calls:
        times_ns[row.kind] += row.calls * (row.median_ns or 0)
    most = (
        f", most of their time in {class_name(max(times_ns, key=times_ns.__getitem__))}"
        if any(times_ns.values())
        else ""
    )
    what = "the last collectives are" if nccl.source == FLIGHT_RECORDER else "what NCCL did is"
    return f"Only {what} told: {plural(calls, 'call')} a rank{most}."


def _of_records(summary: Summary) -> str:
    if summary.bound is not None:
        return f"Data-bound: {percent(summary.bound.share)} of a step waits for the DataLoader; no step was captured."
    shares = [(name, summary.phases[phase]) for phase, name in PHASE_NAMES.items() if phase in summary.phases]
    told = [f"{percent(share)} in {name}" for name, share in shares]
    spent = f"; a step spends {enumeration(told)} on the main thread" if told else ""
    return f"No step was captured{spent}."
