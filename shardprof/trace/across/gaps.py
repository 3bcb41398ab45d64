"""What a rank did before each of its communications: from the end of those before it to its begin.

When one rank comes late to a collective, this is where the time went that the others did not need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shardprof import engine
from shardprof.engine import Int64s
from shardprof.trace.activities import Activities
from shardprof.trace.classes import CLASSES, COMM_KINDS

DOING = ("compute", "communication", "copies", "data_loading", "host")
"""What the time before a communication went to; "host" is the CPU doing what is none of these: launching, Python."""

_OF_CLASS = {
    "compute": "compute",
    **dict.fromkeys(COMM_KINDS, "communication"),
    "memcpy": "copies",
    "memset": "copies",
    "data_loading": "data_loading",
    "launch_bound": "host",
    "idle": "host",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """A row a communication, in the order of the Collectives: `doing_ns` by DOING, shape (rows, len(DOING)); how many
    pieces of computing (`work`) began since the communication before did; and how much of the communication itself
    nothing computes under."""

    doing_ns: Int64s
    work: Int64s
    exposed_ns: Int64s


def gaps_of(activities: Activities, begin_ns: int) -> Gaps:
    """The gaps before a rank's communications, the first of which counts from `begin_ns` on."""
    collectives = activities.collectives
    order = np.argsort(collectives.begin_ns, kind="stable")
    begins, ends = collectives.begin_ns[order], collectives.end_ns[order]
    before = np.maximum.accumulate(np.concatenate(([begin_ns], ends)))[:-1]
    windows = np.empty((len(order), 2), dtype=np.int64)
    windows[order] = np.stack((np.minimum(before, begins), begins), axis=1)
    cells = engine.partition_ns(activities.by_precedence(), windows)
    into = np.array([DOING.index(_OF_CLASS[name]) for name in CLASSES])
    doing_ns = np.zeros((len(order), len(DOING)), dtype=np.int64)
    for column, target in enumerate(into.tolist()):
        doing_ns[:, target] += cells[:, column]
    span = np.stack((collectives.begin_ns, collectives.end_ns), axis=1)
    work = np.empty(len(order), dtype=np.int64)
    work[order] = np.diff(np.searchsorted(activities.work_begin_ns, begins), prepend=0)
    return Gaps(
        doing_ns=doing_ns,
        work=work,
        exposed_ns=(span[:, 1] - span[:, 0]) - engine.covered_ns(activities.compute, span),
    )
