"""The tables of a report as words and figures, for the outputs that people read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from shardprof.analysis.result import AlwaysOn, Collective, KindSummary, Rank, StepsSummary, Summary
from shardprof.render._words import PHASE_NAMES, percent
from shardprof.trace.classes import class_name
from shardprof.words import Scale, plural, size, time_scale

_Likeness = tuple[str, "str | None", "int | None", "str | None"]

_MANY_RECORDED = 16
"""Above this number of ranks three stand for all of them in the table of recorded steps."""

SHORT_NAMES = {
    "compute": "comp",
    "communication": "comm",
    "copies": "copy",
    "data_loading": "data",
    "launch_bound": "launch",
    "idle": "idle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of figures; `words` names the columns that hold words instead, `spare` those that a narrow output may
    leave out, the first one first.

    `bars` are shares of classes by row, drawn before the column of index `bars_at` where an output can draw; `notes`
    explain the columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str]
    notes: tuple[str, ...] = ()
    bars: tuple[Mapping[str, float], ...] = ()
    bars_at: int = 0
    spare: tuple[str, ...] = ()

    def without(self, column: str) -> Table:
        """The table without one of its columns, and without the note on it."""
        at = self.columns.index(column)
        rows = tuple((*row[:at], *row[at + 1 :]) for row in self.rows)
        notes = tuple(note for note in self.notes if not note.startswith(f"{column}:"))
        return replace(self, columns=(*self.columns[:at], *self.columns[at + 1 :]), rows=rows, notes=notes)


def rank_table(summary: Summary, groups: Sequence[str]) -> Table:
    """Each rank's step and what it went to, by the `groups` worth a column; of many ranks those with a remark."""
    marked = [rank for rank in summary.ranks if rank.remark]
    rows = marked or list(summary.ranks)
    scale = time_scale(rank.step_ns for rank in rows if rank.step_ns is not None)
    hosts = _short_hosts({rank.host for rank in summary.ranks if rank.host})
    with_hosts = len(hosts) > 1
    head = ("rank", *(("host",) if with_hosts else ()), f"{summary.window} ({scale.unit})")
    bars = tuple({group: rank.share(group) for group in groups} for rank in rows)
    hidden = len(summary.ranks) - len(rows)
    notes = (f"{hidden:,} more {'rank is' if hidden == 1 else 'ranks are'} not listed",) if hidden else ()
    return Table(
        columns=(*head, *(SHORT_NAMES[group] for group in groups), *(("",) if marked else ())),
        rows=tuple(
            (
                str(rank.rank),
                *((hosts.get(rank.host or "", ""),) if with_hosts else ()),
                "no steps" if rank.step_ns is None else scale.figure(rank.step_ns),
                *("" if rank.step_ns is None else percent(rank.share(g)).removesuffix(" %") for g in groups),
                *((rank.remark,) if marked else ()),
            )
            for rank in rows
        ),
        words=frozenset({"host", ""}),
        notes=notes,
        bars=bars,
        bars_at=len(head),
    )


def _short_hosts(hosts: Collection[str]) -> dict[str, str]:
    """Hosts by name without their domain, where that still tells them apart."""
    short = {host: host.split(".")[0] for host in hosts}
    return short if len(set(short.values())) == len(short) else {host: host for host in hosts}


def communication_table(steps: StepsSummary, collectives: Sequence[Collective], window: str) -> Table:
    """What each kind of communication moves and costs in a `window` ("step" or "trace")."""
    scale = time_scale(kind.exposed_ns / steps.count for kind in steps.kinds)
    columns = ("communication", "calls", "payload", "exposed", "share", "overlap")
    more = {"waiting": _waiting_by_kind(collectives), "busbw": _busbw_by_kind(collectives)}
    more["group"] = _groups_by_kind(collectives)
    told = {name: values for name, values in more.items() if any(values.get(kind.kind) for kind in steps.kinds)}
    notes = (
        f"a {window} and rank, on average",
        "1 MB = 1e6 B",
        "exposed: outside compute, what two kinds share counts for the first",
        f"share: of the {window}",
        "overlap: the share of it that runs under compute",
        *(("waiting: the share of it until the last rank has come",) if "waiting" in told else ()),
        *(("busbw: bus bandwidth from then on",) if "busbw" in told else ()),
    )
    return Table(
        columns=(*columns, *told),
        rows=tuple(
            (*_kind_row(kind, steps, scale), *(values.get(kind.kind, "") for values in told.values()))
            for kind in steps.kinds
        ),
        words=frozenset({"communication", "group"}),
        notes=notes,
        spare=tuple(name for name in ("busbw", "waiting", "group") if name in told),
    )


def _waiting_by_kind(collectives: Sequence[Collective]) -> dict[str, str]:
    """What part of a kind's time its ranks wait for the last of them."""
    wait_ns, transfer_ns = Counter[str](), Counter[str]()
    for row in collectives:
        wait_ns[row.kind] += row.wait_ns or 0
        transfer_ns[row.kind] += row.transfer_ns or 0
    total_ns = {kind: wait_ns[kind] + transfer_ns[kind] for kind in wait_ns}
    return {kind: percent(wait_ns[kind] / total_ns[kind]) for kind in wait_ns if total_ns[kind]}


def _busbw_by_kind(collectives: Sequence[Collective]) -> dict[str, str]:
    """A kind's bus bandwidth: over all its groups, where each is known."""
    bus_bytes, transfer_ns = Counter[str](), Counter[str]()
    for row in collectives:
        if row.busbw_gbps is not None and row.transfer_ns:
            bus_bytes[row.kind] += round(row.busbw_gbps * row.transfer_ns)
            transfer_ns[row.kind] += row.transfer_ns
    return {kind: f"{size(1e9 * bus_bytes[kind] / transfer_ns[kind])}/s" for kind in transfer_ns if bus_bytes[kind]}


def _kind_row(kind: KindSummary, steps: StepsSummary, scale: Scale) -> tuple[str, ...]:
    calls, overlapped = kind.calls / steps.count, kind.overlapped_share
    return (
        class_name(kind.kind).removesuffix(" communication"),
        "unknown" if not calls else f"{calls:,.0f}" if calls == round(calls) else f"{calls:,.1f}",
        "unknown" if kind.payload_bytes is None else size(kind.payload_bytes / steps.count),
        f"{scale.figure(kind.exposed_ns / steps.count)} {scale.unit}",
        percent(kind.exposed_ns / sum(steps.groups_ns.values())),
        "" if overlapped is None else percent(overlapped),
    )


def _groups_by_kind(collectives: Sequence[Collective]) -> dict[str, str]:
    """Who communicates: the process groups' descriptions, those that are told alike once with their number."""
    several = len({(row.group, row.ranks) for row in collectives}) > 1
    named: dict[str, Counter[_Likeness]] = defaultdict(Counter)
    for row in collectives:
        if row.ranks is not None or row.group_size is not None:
            named[row.kind][_alike(row, several=several)] += 1
    return {kind: ", ".join(_group_words(*like, n) for like, n in found.items()) for kind, found in named.items()}


def _alike(row: Collective, *, several: bool) -> _Likeness:
    """What is told of a group: its description, what that leaves open, its size, and the nodes if there are several."""
    dimension = row.dimension if several and row.dimension not in row.group.split("_") else None
    nodes = f"{row.nodes} nodes" if row.nodes and row.nodes > 1 else None
    return row.group, dimension, row.group_size, nodes


def _group_words(description: str, dimension: str | None, size: int | None, nodes: str | None, groups: int) -> str:
    ranks = None if size is None or description == plural(size, "rank") else plural(size, "rank")
    many = f"{groups} x {ranks}" if ranks and groups > 1 else ranks
    more = ", ".join(filter(None, (dimension, many, nodes)))
    return f"{description} ({more})" if more else description


def recorded_table(ranks: Sequence[Rank]) -> Table | None:
    """What was recorded of every step; None where nothing was. Of many ranks the slowest, the median, the fastest."""
    known = [(rank.rank, rank.always_on) for rank in ranks if rank.always_on]
    if not known:
        return None
    if len(known) > _MANY_RECORDED:
        slowest_first = sorted(known, key=lambda entry: -entry[1].wall_ns)
        known = [slowest_first[0], slowest_first[len(known) // 2], slowest_first[-1]]
    scale = time_scale(record.wall_ns for _, record in known)
    with_slowest = any(record.slowest_step is not None for _, record in known)
    phases = [phase for phase in PHASE_NAMES if any(phase in record.phases_ns for _, record in known)]
    return Table(
        columns=("rank", "steps", f"step ({scale.unit})", *phases, *(("slowest", "in step") if with_slowest else ())),
        rows=tuple(
            _recorded_row(rank, record, phases, scale)[: None if with_slowest else -2] for rank, record in known
        ),
        words=frozenset(),
        notes=(
            "medians of time on the main thread over so many of all recorded steps; left out, where others remain: "
            "the first, captured ones, those that recording took over 1 % of",
        ),
    )


def _recorded_row(rank: int, record: AlwaysOn, phases: Sequence[str], scale: Scale) -> tuple[str, ...]:
    times = [record.phases_ns.get(phase) for phase in phases]
    return (
        str(rank),
        f"{record.usual_steps:,} of {record.steps:,}",
        scale.figure(record.wall_ns),
        *("" if time_ns is None else scale.figure(time_ns) for time_ns in times),
        "" if record.slowest_wall_ns is None else scale.figure(record.slowest_wall_ns),
        "" if record.slowest_step is None else str(record.slowest_step),
    )
