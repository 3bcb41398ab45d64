"""The communications of all ranks on one clock: which are one collective, and how long each waited for the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shardprof.engine import Int64s
from shardprof.trace.across.calls import Calls, RankWindow, calls_of
from shardprof.trace.across.clock import align, as_recorded, by_part, on_reference
from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.trace.across.matching import Matched, match
from shardprof.trace.across.meetings import Meetings, meetings, waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The ranks on one clock: their `calls` (with `begin_ns` in reference time), which of them are one collective,
    when these met, how long each call waited for the last rank. `parts` are the clocks with those that nothing ties to
    the reference relative to the lowest rank that they are tied to."""

    clock: tuple[RankClock, ...]
    parts: tuple[RankClock, ...]
    calls: Calls
    matched: Matched
    begin_ns: Int64s
    meetings: Meetings
    wait_ns: Int64s


def join(windows: Sequence[RankWindow], clock: str) -> Joined:
    """The ranks of a run, on the clock of the collectives they share or, with `clock` "traces", as they are."""
    calls = calls_of(windows)
    matched = match(calls)
    clocks = align(calls, matched.instance)
    if clock == "traces":
        clocks = as_recorded(clocks, calls, matched.instance)
    parts = by_part(clocks, calls, matched.instance)
    begin_ns = on_reference(parts, calls.rank, calls.begin_ns)
    end_ns = on_reference(parts, calls.rank, calls.end_ns)
    met = meetings(calls, matched.instance, begin_ns, end_ns)
    return Joined(
        clock=clocks,
        parts=parts,
        calls=calls,
        matched=matched,
        begin_ns=begin_ns,
        meetings=met,
        wait_ns=waits(met, matched.instance, begin_ns),
    )
