"""What the records of every step tell without any captured trace: medians of step time and its phases."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from shardprof.analysis.result import AlwaysOn
from shardprof.trace.schema import StepRecord

_OWN_SHARE = 0.01
_LEAST_STEPS_WITH_A_SLOWEST = 3


def summary(records: Sequence[StepRecord]) -> AlwaysOn | None:
    """Medians over the usual steps of one rank, None without records.

    Left out, where others remain: the first step (it pays for starting up) and, of the rest, captured steps and those
    in which recording itself took more than 1 % (it exported a trace).
    """
    if not records:
        return None
    usual = [r for r in records[1:] if _is_undisturbed(r)] or list(records[1:]) or list(records)
    enough = len(usual) >= _LEAST_STEPS_WITH_A_SLOWEST
    slowest = max(usual, key=lambda record: record.end_ns - record.begin_ns) if enough else None
    return AlwaysOn(
        steps=records[-1].step - records[0].step + 1,
        usual_steps=len(usual),
        wall_ns=round(median(record.end_ns - record.begin_ns for record in usual)),
        slowest_step=slowest.step if slowest else None,
        slowest_wall_ns=slowest.end_ns - slowest.begin_ns if slowest else None,
        data_ns=_median_of_known([record.data_ns for record in usual]),
        forward_ns=_median_of_known([record.forward_ns for record in usual]),
        backward_ns=_median_of_known([record.backward_ns for record in usual]),
        optimizer_ns=_median_of_known([record.optimizer_ns for record in usual]),
    )


def _is_undisturbed(record: StepRecord) -> bool:
    return not record.captured and record.hook_ns <= _OWN_SHARE * (record.end_ns - record.begin_ns)


def _median_of_known(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(median(known)) if known else None
