"""Each collective as a meeting of ranks: when the first and the last one came, and when it was over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls
from shardprof.trace.collectives import UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Meetings:
    """A row a collective that several ranks were seen in, times in reference time.

    `call` is one of its calls (a row of the Calls), `last_rank` who came last, `ranks` how many were seen,
    `mean_wait_ns` how long they waited for the last one.
    """

    call: Int64s
    first_ns: Int64s
    last_ns: Int64s
    end_ns: Int64s
    last_rank: Int64s
    ranks: Int64s
    mean_wait_ns: Int64s

    def __len__(self) -> int:
        return len(self.call)

    @property
    def transfer_ns(self) -> Int64s:
        """From the last arrival on; 0 where the clocks' error makes it negative."""
        lasted: Int64s = np.maximum(self.end_ns - self.last_ns, 0)
        return lasted


def meetings(calls: Calls, instance: Int64s, begin_ns: Int64s, end_ns: Int64s) -> Meetings:
    """What `instance` makes of the calls; `begin_ns` and `end_ns` are theirs in reference time."""
    rows = np.flatnonzero(instance != UNKNOWN)
    rows = rows[np.lexsort((begin_ns[rows], instance[rows]))]  # within each collective in the order of arrival
    firsts = np.flatnonzero(np.concatenate(([True], np.diff(instance[rows]) > 0))) if len(rows) else rows
    counts = np.diff(np.append(firsts, len(rows)))
    lasts = firsts + counts - 1
    ends = np.maximum.reduceat(end_ns[rows], firsts) if len(rows) else rows
    sums = np.add.reduceat(begin_ns[rows] - begin_ns[rows[firsts]].repeat(counts), firsts) if len(rows) else rows
    span = begin_ns[rows[lasts]] - begin_ns[rows[firsts]]
    several = counts > 1
    return Meetings(
        call=rows[firsts][several],
        first_ns=begin_ns[rows[firsts]][several],
        last_ns=begin_ns[rows[lasts]][several],
        end_ns=ends[several],
        last_rank=calls.rank[rows[lasts]][several],
        ranks=counts[several],
        mean_wait_ns=(span - sums // np.maximum(counts, 1))[several],
    )


def waits(met: Meetings, instance: Int64s, begin_ns: Int64s) -> Int64s:
    """How long each call waited for the last rank; UNKNOWN where no other rank was seen in its collective."""
    waited = np.full(len(instance), UNKNOWN, dtype=np.int64)
    last_ns = np.full(int(instance.max(initial=UNKNOWN)) + 1, np.iinfo(np.int64).min)
    last_ns[instance[met.call]] = met.last_ns
    known = np.flatnonzero(instance != UNKNOWN)
    known = known[last_ns[instance[known]] > np.iinfo(np.int64).min]
    waited[known] = np.maximum(last_ns[instance[known]], begin_ns[known]) - begin_ns[known]
    return waited
