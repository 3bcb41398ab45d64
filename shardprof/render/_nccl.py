"""NCCL's own account of the whole training, as a table and as lines on what never ended."""

from __future__ import annotations

from shardprof.analysis.result import Nccl, NcclCalls, Unfinished
from shardprof.render._tables import Table
from shardprof.render._words import rate_if_known, size_if_known
from shardprof.trace.classes import class_name
from shardprof.words import Scale, enumeration, numbers, plural, size, time_scale

_MOST_ROWS = 12
_MOST_UNFINISHED = 4
FLIGHT_RECORDER = "flight recorder"
_TELLERS = {
    "plugin": "all calls of the training, told by NCCL's plugin",
    "log": "all calls of the training, told by NCCL's log",
    FLIGHT_RECORDER: "the last calls, told by torch's flight recorder",
}
_LOST = {
    "dropped": "found the ring full",
    "unslotted": "found no place to be in flight in",
    "evicted": "gave up their place before their end was seen",
    "stale": "came too late for what they belong to",
    "beyond": "came after those that a report holds",
    "untabled": "name a string or communicator for which there was no room",
}


def nccl_table(nccl: Nccl) -> Table:
    """Kinds, groups and sizes with the time of their calls over the whole training, those that took most first."""
    rows = sorted(nccl.calls, key=_total_ns, reverse=True)
    shown, hidden = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    times = time_scale(row.p99_ns for row in shown if row.p99_ns is not None)
    timed = any(row.median_ns is not None for row in shown)
    ways = [_way(row) for row in shown]
    # torch's flight recorder remembers the collectives of any backend.
    head = "collective" if nccl.source == FLIGHT_RECORDER else "NCCL"
    columns = {
        head: [class_name(row.kind) for row in shown],
        "group": [_group(row) for row in shown],
        "payload": [size_if_known(row.payload_bytes, "-") for row in shown],
        "calls": [f"{row.calls:,}" for row in shown],
        **({f"median ({times.unit})": [_time(row.median_ns, times) for row in shown]} if timed else {}),
        **({"p99": [_time(row.p99_ns, times) for row in shown]} if timed else {}),
        **({"busbw": [rate_if_known(row.busbw_gbps, "-") for row in shown]} if timed else {}),
        **({"way": ways} if any(ways) else {}),
    }
    notes = (
        f"{_TELLERS.get(nccl.source, f'all calls of the training, told by {nccl.source}')}; calls: of a rank",
        *(("median, p99: of a rank, the wait for others included",) if timed else ()),
        *(("busbw: bus bandwidth by the shortest time of a call on any rank",) if timed else ()),
        *(("way: algorithm, protocol, number of channels and what they go over",) if "way" in columns else ()),
        *((f"{plural(hidden, 'row')} more in --format json",) if hidden > 0 else ()),
    )
    return Table(
        columns=tuple(columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        words=frozenset({head, "group", "way"}),
        notes=notes,
        spare=tuple(name for name in ("way", "p99", "group", "busbw") if name in columns),
    )


def unfinished_words(nccl: Nccl) -> tuple[str, ...]:
    """What had begun and was not over when the ranks were last heard of."""
    lines = [_unfinished(call) for call in nccl.unfinished[:_MOST_UNFINISHED]]
    more = len(nccl.unfinished) - len(lines)
    return (*lines, *((f"{more} more in --format json",) if more > 0 else ()))


def lost_words(nccl: Nccl) -> str:
    """What of NCCL's account no record holds whole; empty where nothing is lost."""
    told = [f"{count:,} {_LOST[name]}" for name, count in sorted(nccl.lost.items()) if name in _LOST]
    return f"of NCCL's events {enumeration(told)}" if told else ""


def _unfinished(call: Unfinished) -> str:
    group = f" in {call.group}" if call.group else ""
    number = "" if call.sequence is None else f" number {call.sequence}"
    what = f"{call.function}{number}{group}"
    payload = "" if call.payload_bytes is None else f", {size(call.payload_bytes)},"
    return f"{what}{payload} had begun on rank{'' if len(call.ranks) == 1 else 's'} {numbers(call.ranks)} and not ended"


def _total_ns(row: NcclCalls) -> tuple[int, int]:
    return row.calls * (row.median_ns or 0), row.calls * (row.payload_bytes or 0)


def _group(row: NcclCalls) -> str:
    ranks = "" if row.group_size is None else plural(row.group_size, "rank")
    return f"{row.group} ({ranks})" if row.group and ranks else row.group or ranks


def _way(row: NcclCalls) -> str:
    channels = "" if row.channels is None else f"x {row.channels}"
    way = " ".join(part for part in (row.algorithm, row.protocol, channels) if part)
    return ", ".join(part for part in (way, row.transport or "") if part)


def _time(time_ns: int | None, scale: Scale) -> str:
    return "-" if time_ns is None else scale.figure(time_ns)
