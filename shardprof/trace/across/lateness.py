"""Who came late to each collective by doing of its own, and what that doing was.

A rank may come late because another one kept it waiting before: only what it did longer than the others did since it
left the collective before counts as its own. Where that does not tell why, as when all of a node are as slow and meet
one another in groups of their own before, what it did since it left the last collective of this group counts, less what
others in between have been told to have waited for.
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

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]


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
    tables = list(_tables(rows, instance[rows]))
    late_ns, last = np.zeros((len(calls), len(DOING))), np.zeros(len(calls), dtype=np.bool_)
    for table in tables:
        late_ns[table] = _late_ns(table, begin_ns, calls.doing_ns)
        last[table[:, -1]] = True
    by_group = _Since(calls)
    since_ns = np.maximum(by_group.sums(calls.doing_ns), calls.doing_ns)
    told_ns = by_group.sums(late_ns)
    for table in tables:
        late_ns[table] += _late_ns(table, begin_ns, since_ns, told_ns, late_ns[table].sum(axis=2))
        late_ns[table] *= _exposed(calls, table)
    call = np.flatnonzero(late_ns.sum(axis=1) >= 1)
    late_ns, last = late_ns[call], last[call]
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


def _late_ns(
    rows: Int64s,
    begin_ns: Int64s,
    doing_ns: Numbers,
    told_ns: Numbers | None = None,
    explained_ns: Numbers | None = None,
) -> Numbers:
    """How late each rank came to each of some collectives of the same number of ranks, by DOING: `rows` has the shape
    (collectives, ranks), in the order of arrival. Of what is done longer, `told_ns` does not count any more; of what
    came late, `explained_ns`."""
    late_ns = (begin_ns[rows] - begin_ns[rows[:, :1]]).astype(np.float64)
    late_ns = (late_ns - _median_of_others(late_ns)).clip(min=0)
    if explained_ns is not None:
        late_ns = (late_ns - explained_ns).clip(min=0)
    each_ns = [doing_ns[rows, column] for column in range(len(DOING))]
    more_ns = np.stack([time_ns - _median_of_others(time_ns) for time_ns in each_ns], axis=2)
    more_ns = (more_ns if told_ns is None else more_ns - told_ns[rows]).clip(min=0)
    total_ns = more_ns.sum(axis=2)
    late: Numbers = more_ns * (np.minimum(total_ns, late_ns) / np.maximum(total_ns, 1))[:, :, None]
    return late


def _exposed(calls: Calls, rows: Int64s) -> npt.NDArray[np.float64]:
    """The share of each of some collectives in which those that wait for the last one compute nothing, shape
    (collectives, 1, 1)."""
    lasted_ns = np.maximum(calls.end_ns[rows] - calls.begin_ns[rows], 1)
    share: npt.NDArray[np.float64] = np.median(calls.exposed_ns[rows[:, :-1]] / lasted_ns[:, :-1], axis=1)
    return share[:, None, None]


class _Since:
    """Sums over each rank's calls since its last one in the same group, or since its step began."""

    def __init__(self, calls: Calls) -> None:
        self._order = np.lexsort((calls.begin_ns, calls.rank))
        rank, group, step = (column[self._order] for column in (calls.rank, calls.group, calls.step))
        place = np.arange(len(self._order))
        begins = np.concatenate(([True], (np.diff(rank) != 0) | (np.diff(step) != 0)))[: len(place)]
        since_step = np.maximum.accumulate(np.where(begins, place, 0))
        by_group = np.lexsort((place, group, rank))
        follows = (np.diff(rank[by_group]) == 0) & (np.diff(group[by_group]) == 0)
        self._first = since_step
        self._first[by_group[1:][follows]] = by_group[:-1][follows] + 1

    def sums(self, values: Numbers) -> Numbers:
        """For each call the sum of the values of the calls from there on, up to its own."""
        total = np.concatenate((np.zeros((1, values.shape[1])), np.cumsum(values[self._order], axis=0)))
        found = np.empty(values.shape)
        found[self._order] = total[np.arange(len(self._order)) + 1] - total[self._first]
        return found


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


def _median_of_others(values: Numbers) -> npt.NDArray[np.float64]:
    """For each value of a row the median of the others in the row, of which there is at least one."""
    order = np.argsort(values, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    others = values.shape[1] - 1

    def nth(n: int) -> Numbers:
        """The n-th of the others: one further where the value itself is among the first n."""
        return np.where(place > n, ordered[:, n : n + 1], ordered[:, n + 1 : n + 2])

    return (nth((others - 1) // 2) + nth(others // 2)) / 2
