"""Who came late to each collective by doing of its own, and what that doing was.

A rank may come late because another one kept it waiting before: only what it did longer than the others did since it
left the collective before counts as its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.gaps import DOING
from shardprof.trace.collectives import UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """A row a call in a step that came late to its collective, by doing of its own: `call` is the row of the Calls.

    `late_ns` is how much later than the median of the others it came, by DOING (shape (rows, len(DOING))): as far as
    the others then waited without computing, and in a step no more than the rank does it longer than they do in all of
    the step. `last` is whether it came last. `work`, and `usual_work` of the others, count the pieces of computing of
    the whole step.
    """

    call: Int64s
    late_ns: Int64s
    last: npt.NDArray[np.bool_]
    work: Int64s
    usual_work: Int64s


def lateness(calls: Calls, instance: Int64s, begin_ns: Int64s) -> Lateness:
    """`begin_ns` is when each call began, in reference time."""
    rows = np.flatnonzero((instance != UNKNOWN) & (calls.step != UNKNOWN))
    rows = rows[np.lexsort((begin_ns[rows], instance[rows]))]  # within each collective in the order of arrival
    parts = [_late(calls, table, begin_ns) for table in _tables(rows, instance[rows])]
    call = np.concatenate([rows[:0], *(part[0] for part in parts)])
    late_ns = np.concatenate([np.empty((0, len(DOING)), dtype=np.int64), *(part[1] for part in parts)])
    last = np.concatenate([np.empty(0, dtype=np.bool_), *(part[2] for part in parts)])
    steps = _steps(calls)
    key = steps.key_of_call[call]
    charged_ns = np.zeros_like(steps.more_ns)
    np.add.at(charged_ns, key, late_ns)
    share = np.minimum(1, steps.more_ns / np.maximum(charged_ns, 1))
    return Lateness(
        call=call,
        late_ns=np.rint(late_ns * share[key]).astype(np.int64),
        last=last,
        work=steps.work[key],
        usual_work=steps.usual_work[key],
    )


def _late(calls: Calls, rows: Int64s, begin_ns: Int64s) -> tuple[Int64s, Int64s, npt.NDArray[np.bool_]]:
    """The late ones among collectives of the same number of ranks, shape (collectives, ranks), in the order of arrival:
    their rows, how late by which doing, and whether they were last."""
    arrived = begin_ns[rows] - begin_ns[rows[:, :1]]
    late_ns = arrived - _median_of_others(arrived)
    doing_ns = [calls.doing_ns[rows, column] for column in range(len(DOING))]
    more_ns = np.stack([time_ns - _median_of_others(time_ns) for time_ns in doing_ns], axis=2).clip(min=0)
    total_ns = more_ns.sum(axis=2)
    lasted_ns = np.maximum(calls.end_ns[rows] - calls.begin_ns[rows], 1)
    exposed = np.median(calls.exposed_ns[rows[:, :-1]] / lasted_ns[:, :-1], axis=1)
    own_ns = np.minimum(total_ns, late_ns.clip(min=0)) * exposed[:, None]
    is_late = own_ns > 0
    share = (own_ns[is_late] / total_ns[is_late])[:, None]
    is_last = np.broadcast_to(np.arange(rows.shape[1]) == rows.shape[1] - 1, rows.shape)
    return rows[is_late], np.rint(more_ns[is_late] * share).astype(np.int64), is_last[is_late]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """A row a rank and step: what the rank did longer in it than the median of the others did, and its computing.

    `key_of_call` is the row of each call's rank and step.
    """

    key_of_call: Int64s
    more_ns: npt.NDArray[np.float64]
    work: Int64s
    usual_work: Int64s


def _steps(calls: Calls) -> _Steps:
    keys, which = np.unique(np.stack((calls.step, calls.rank), axis=1), axis=0, return_inverse=True)
    key_of_call = which.reshape(-1).astype(np.int64)
    doing_ns = np.zeros((len(keys), len(DOING)), dtype=np.int64)
    np.add.at(doing_ns, key_of_call, calls.doing_ns)
    work = np.bincount(key_of_call, calls.work, minlength=len(keys)).astype(np.int64)
    more_ns = np.zeros((len(keys), len(DOING)))
    usual_work = work.copy()
    for table in _tables(np.arange(len(keys)), keys[:, 0]):
        usual_work[table] = np.rint(_median_of_others(work[table])).astype(np.int64)
        for column in range(len(DOING)):
            time_ns = doing_ns[table, column]
            more_ns[table, column] = (time_ns - _median_of_others(time_ns)).clip(min=0)
    return _Steps(key_of_call=key_of_call, more_ns=more_ns, work=work, usual_work=usual_work)


def _tables(rows: Int64s, keys: Int64s) -> Iterator[Int64s]:
    """Rows of one key each, which come together: a table for each number of them above 1, shape (keys, rows)."""
    firsts = np.flatnonzero(np.concatenate(([True], np.diff(keys) != 0))) if len(rows) else rows
    counts = np.diff(np.append(firsts, len(rows)))
    for size in np.unique(counts[counts > 1]).tolist():
        yield rows[firsts[counts == size][:, None] + np.arange(size)]


def _median_of_others(values: Int64s) -> npt.NDArray[np.float64]:
    """For each value of a row the median of the others in the row, of which there is at least one."""
    order = np.argsort(values, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    others = values.shape[1] - 1

    def nth(n: int) -> Int64s:
        """The n-th of the others: one further where the value itself is among the first n."""
        return np.where(place > n, ordered[:, n : n + 1], ordered[:, n + 1 : n + 2])

    return (nth((others - 1) // 2) + nth(others // 2)) / 2
