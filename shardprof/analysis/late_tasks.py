"""Why a rank computes for longer than the others: the same tasks take it longer, or it has others, or more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from shardprof.analysis.result import Evidence, Straggler
from shardprof.trace.across.tasks import Task, Tasks
from shardprof.words import milliseconds

ALIKE = 0.1
"""A task runs as often as elsewhere if its calls in a step differ from the others' median by less than this share."""
LEAST_SHARE = 0.01
_MOST_NAME = 48


@dataclass(frozen=True, slots=True)
class _Against:
    """A rank's time a step beside the median of the others': in tasks that all have alike, and in the rest."""

    alike_ns: float
    usual_alike_ns: float
    rest_ns: float
    usual_rest_ns: float
    slowest: Task | None
    most: Task | None


def with_tasks(straggler: Straggler, tasks: Mapping[int, Tasks]) -> Straggler:
    """The straggler with what its tasks tell; one that computes more than the others is no slower one."""
    own = tasks.get(straggler.rank)
    others = [tasks[rank] for rank in tasks if rank != straggler.rank and tasks[rank].steps]
    if straggler.cause not in ("compute", "imbalance") or own is None or not own.steps or not others:
        return straggler
    against = _against(own, others)
    slower_ns, more_ns = against.alike_ns - against.usual_alike_ns, against.rest_ns - against.usual_rest_ns
    if max(slower_ns, more_ns) <= LEAST_SHARE * (against.usual_alike_ns + against.usual_rest_ns):
        return straggler
    has_more = more_ns > slower_ns
    told = _more(against, more_ns) if has_more else _slower(against, slower_ns, has_shapes=_have_shapes(own))
    evidence = Evidence(message=told, rank=straggler.rank, step=None, begin_ns=None, end_ns=None)
    cause = "imbalance" if has_more else straggler.cause
    return replace(straggler, cause=cause, evidence=(*straggler.evidence, evidence))


def _against(own: Tasks, others: list[Tasks]) -> _Against:
    alike = {task for task in own.calls if _is_alike(task, own, others)}
    usual = {task: median(_a_step(other.time_ns, task, other) for other in others) for task in alike}
    extra = {task: _a_step(own.time_ns, task, own) - usual[task] for task in alike}
    rest = {task: time_ns / own.steps for task, time_ns in own.time_ns.items() if task not in alike}
    return _Against(
        alike_ns=sum(_a_step(own.time_ns, task, own) for task in alike),
        usual_alike_ns=sum(usual.values()),
        rest_ns=sum(rest.values()),
        usual_rest_ns=median(_rest_ns(other, alike) for other in others),
        slowest=max(extra, key=lambda task: extra[task], default=None),
        most=max(rest, key=lambda task: rest[task], default=None),
    )


def _is_alike(task: Task, own: Tasks, others: list[Tasks]) -> bool:
    usual = median(_a_step(other.calls, task, other) for other in others)
    return abs(_a_step(own.calls, task, own) - usual) <= ALIKE * usual


def _rest_ns(tasks: Tasks, alike: set[Task]) -> float:
    return sum(time_ns for task, time_ns in tasks.time_ns.items() if task not in alike) / tasks.steps


def _a_step(sums: Mapping[Task, int], task: Task, tasks: Tasks) -> float:
    return sums.get(task, 0) / tasks.steps


def _have_shapes(tasks: Tasks) -> bool:
    return any(shape for _, shape in tasks.calls)


def _slower(against: _Against, slower_ns: float, *, has_shapes: bool) -> str:
    same = "of the same shapes" if has_shapes else "(their shapes are not told)"
    times = against.alike_ns / against.usual_alike_ns
    return (
        f"the same tasks {same} take {times:.2f} times as long as elsewhere, {milliseconds(slower_ns)} a step more, "
        f"most of that in {_name(against.slowest)}"
    )


def _more(against: _Against, more_ns: float) -> str:
    return (
        f"{milliseconds(more_ns)} a step more goes to tasks of shapes, or in numbers, that the others do not have, "
        f"most of it to {_name(against.most)}: longer sequences, or an uneven shard"
    )


def _name(task: Task | None) -> str:
    name = task[0] if task else ""
    return name if len(name) <= _MOST_NAME else name[: _MOST_NAME - 3] + "..."
