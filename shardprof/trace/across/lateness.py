"""Who came late to each collective by doing of its own, and what that doing was.

A rank may come late because another one kept it waiting before: only what it did longer than the others did since it
left the collective before counts as its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls
from shardprof.trace.across.gaps import DOING
from shardprof.trace.collectives import UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """A row a call that came late to its collective, by doing of its own: `call` is the row of the Calls.

    `late_ns` is how much later than the median of the others it came, by DOING (shape (rows, len(DOING))), as far as
    the others then waited without computing; `work`, and `usual_work` of the others, count the pieces of computing
    before it, `last` is whether it came last. `met` counts the collectives inside steps that several ranks had.
    """

    call: Int64s
    late_ns: Int64s
    work: Int64s
    usual_work: Int64s
    last: npt.NDArray[np.bool_]
    met: int


def lateness(calls: Calls, instance: Int64s, begin_ns: Int64s) -> Lateness:
    """`begin_ns` is when each call began, in reference time."""
    rows = np.flatnonzero(instance != UNKNOWN)
    rows = rows[np.lexsort((begin_ns[rows], instance[rows]))]  # within each collective in the order of arrival
    firsts = np.flatnonzero(np.concatenate(([True], np.diff(instance[rows]) > 0))) if len(rows) else rows
    counts = np.diff(np.append(firsts, len(rows)))
    tables = [
        rows[firsts[counts == size][:, None] + np.arange(size)] for size in np.unique(counts[counts > 1]).tolist()
    ]
    late = [_late(calls, table, begin_ns) for table in tables]
    empty = np.empty((0, len(DOING)), dtype=np.int64)
    return Lateness(
        call=np.concatenate([rows[:0], *(part.call for part in late)]),
        late_ns=np.concatenate([empty, *(part.late_ns for part in late)]),
        work=np.concatenate([rows[:0], *(part.work for part in late)]),
        usual_work=np.concatenate([rows[:0], *(part.usual_work for part in late)]),
        last=np.concatenate([np.empty(0, dtype=np.bool_), *(part.last for part in late)]),
        met=sum(part.met for part in late),
    )


def _late(calls: Calls, rows: Int64s, begin_ns: Int64s) -> Lateness:
    """Of collectives of the same number of ranks, shape (collectives, ranks), each in the order of arrival."""
    arrived = begin_ns[rows] - begin_ns[rows[:, :1]]
    late_ns = arrived - _median_of_others(arrived)
    more_ns = np.stack(
        [
            calls.doing_ns[rows, column] - _median_of_others(calls.doing_ns[rows, column])
            for column in range(len(DOING))
        ],
        axis=2,
    ).clip(min=0)
    total_ns = more_ns.sum(axis=2)
    lasted_ns = np.maximum(calls.end_ns[rows] - calls.begin_ns[rows], 1)
    exposed = np.median(calls.exposed_ns[rows[:, :-1]] / lasted_ns[:, :-1], axis=1)
    own_ns = np.minimum(total_ns, late_ns.clip(min=0)) * exposed[:, None]
    is_late = own_ns > 0
    share = (own_ns[is_late] / total_ns[is_late])[:, None]
    return Lateness(
        call=rows[is_late],
        late_ns=np.rint(more_ns[is_late] * share).astype(np.int64),
        work=calls.work[rows][is_late],
        usual_work=np.rint(_median_of_others(calls.work[rows])[is_late]).astype(np.int64),
        last=np.broadcast_to(np.arange(rows.shape[1]) == rows.shape[1] - 1, rows.shape)[is_late],
        met=int((calls.step[rows[:, 0]] != UNKNOWN).sum()),
    )


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
