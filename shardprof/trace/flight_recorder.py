"""What torch's flight recorder remembers of each rank's collectives, and who keeps whom waiting.

A rank's memory is the JSON of `torch._C._distributed_c10d._dump_fr_trace_json` or the pickle that torch writes where it
times out: the last collectives that the rank launched, each with its group and its number in that group. A collective
that a rank has launched and that is not done yet is one it waits in; a member of the group which has not launched it is
behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardprof.errors import ShardprofError, UnreadableTraceError
from shardprof.trace.importers.flight_recorder_pickle import plain_data

_PICKLE = b"\x80"


@dataclass(frozen=True, slots=True)
class Call:
    """A collective that a rank has launched: its number within its group, and whether it is done."""

    group: str
    description: str
    sequence: int
    kind: str
    is_done: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Ranks that wait in a collective, and the members of its group that have not joined it."""

    call: Call
    waiting: tuple[int, ...]
    absent: tuple[int, ...]


Calls = Sequence[Call]
"""One rank's memory, the oldest call first."""


def read_flight(path: Path) -> Calls | None:
    """The collectives in a rank's dump; None where there is none that can be read."""
    try:
        return [_call(entry) for entry in plain_dump(path.read_bytes())["entries"] if not entry.get("is_p2p")]
    except (OSError, ShardprofError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def plain_dump(data: bytes) -> dict[str, Any]:
    """A rank's dump of either form as plain data; where it has no entries, with an empty list of them. Raises
    UnreadableTraceError for what is no dump, and for a pickle that makes more than plain data."""
    try:
        dump = plain_data(data) if data.startswith(_PICKLE) else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableTraceError(f"it is no dump of a flight recorder: {error}", "it has to be whole") from error
    if not isinstance(dump, dict) or not ("entries" in dump or "version" in dump):
        raise UnreadableTraceError("it is no dump of a flight recorder", "TORCH_FR_DUMP_TEMP_FILE says where they are")
    return {"entries": []} | dump


def waits(flights: Mapping[int, Calls], members: Mapping[str, Sequence[int]]) -> list[Wait]:
    """The collectives that some rank waits in, by the number of ranks that wait, the most first.

    `flights` is by rank; `members` are the ranks of each group, where they are known.
    """
    found = []
    for group in sorted({call.group for calls in flights.values() for call in calls}):
        last = {rank: call for rank, calls in flights.items() if (call := _last(calls, group))}
        newest = max(call.sequence for call in last.values())
        waiting = {rank: call for rank, call in last.items() if call.sequence == newest and not call.is_done}
        if waiting:
            ranks = members.get(group, tuple(last))
            absent = tuple(rank for rank in ranks if rank not in last or last[rank].sequence < newest)
            found.append(Wait(next(iter(waiting.values())), tuple(sorted(waiting)), absent))
    return sorted(found, key=lambda wait: len(wait.waiting), reverse=True)


def _call(entry: Mapping[str, Any]) -> Call:
    name, description = entry["process_group"]
    return Call(
        group=str(name),
        description=str(description),
        sequence=int(entry["collective_seq_id"]),
        kind=str(entry["profiling_name"]).split(":")[-1],
        is_done=bool(entry.get("retired")) or entry.get("state") == "completed",
    )


def _last(calls: Calls, group: str) -> Call | None:
    return max((call for call in calls if call.group == group), key=lambda call: call.sequence, default=None)
