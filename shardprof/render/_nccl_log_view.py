"""A debug log of NCCL as words and tables: what is said of it, in which order. No layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.analysis.nccl_log import Account, Chosen, Group, Setting, Way
from shardprof.render._tables import Table
from shardprof.trace.nccl.log_meaning import MEANINGS, Weight
from shardprof.trace.nccl.log_reader import P2P
from shardprof.words import duration, enumeration, numbers, plural, size

_MOST_ROWS = 24
_MOST_SETTINGS = 16
_MOST_WARNINGS = 12
_MOST_NAMES = 4
_TOPICS = (
    ("network", "used"),
    ("found", "found"),
    ("gdr", "GPUDirect"),
    ("bootstrap", "bootstrap"),
    ("p2p", "peer access"),
    ("nvls", "NVLS"),
)
_MOST_NOTES = 4

_TCP = (
    "NET/Socket is TCP through the hosts' memory: NCCL takes it where it finds no InfiniBand or RoCE card and no plugin"
    " for the network"
)

Labelled = tuple[str, tuple[str, ...], Weight | None]
"""A label, its texts, and how much they matter where they are a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the explanation: its title, then a table, then lines."""

    title: str
    table: Table | None = None
    lines: tuple[Labelled, ...] = ()


def verdict(told: Account) -> str:
    """In one sentence: who talks over what, in which version, and what is worst."""
    who = " on ".join(
        filter(
            None,
            [
                plural(told.ranks, "rank") if told.ranks else "an unknown number of ranks",
                plural(told.nodes, "node") if told.nodes else "",
            ],
        )
    )
    library = "RCCL" if told.log.is_rccl else "NCCL"
    version = f"{library} {enumeration(told.log.nccl)}" if told.log.nccl else f"{library} of an unknown version"
    return f"{who}{_over(told)}, {version}; {_worst(told)}"


def _over(told: Account) -> str:
    nets = [way for way in told.ways if way.transport == "NET"]
    names = list(dict.fromkeys(way.kind for way in nets)) or (list(told.networks) if (told.nodes or 0) > 1 else [])
    if names:
        gdr = {way.is_gdr for way in nets}
        how = (
            ""
            if not gdr
            else " with GDR"
            if gdr == {True}
            else " without GDR"
            if gdr == {False}
            else " partly with GDR"
        )
        return f" over NET/{enumeration(names)}{how}"
    inside = list(dict.fromkeys(f"{way.transport}/{way.kind}" for way in told.ways))
    return f" over {enumeration(inside[:2])}" if inside else ""


def _worst(told: Account) -> str:
    stuck = [group for group in told.groups if group.incomplete]
    if not told.warnings:
        return f"{plural(len(stuck), 'communicator')} not completed" if stuck else "no warnings"
    first = told.warnings[0]
    known = MEANINGS.get(first.code)
    count = plural(sum(warning.count for warning in told.warnings), "warning")
    return f"{count}, the worst: {known.title if known else 'one that is not known'} ({_who(first.who)})"


def sections(told: Account) -> Iterator[Section]:
    """All parts that have something to say."""
    yield _versions(told)
    if told.groups:
        yield _group_section(told)
    if told.ways or any(each.topology.rings for each in told.log.communicators):
        yield _topology(told)
    if lines := tuple(_network(told)):
        yield Section(title="network", lines=lines)
    if told.chosen:
        yield Section(title="algorithm and protocol", table=_choices(told.chosen))
    if told.settings:
        yield Section(title="settings", lines=tuple(_settings(told.settings)))
    if told.warnings:
        yield Section(title="warnings", lines=tuple(_warnings(told)))
    if told.log.quality:
        lines = tuple((_times(note.count), (note.message,), None) for note in told.log.quality)
        yield Section(title="what was lost", lines=lines)


def _versions(told: Account) -> Section:
    log = told.log
    versions = ", ".join([*(f"{'RCCL' if log.is_rccl else 'NCCL'} {each}" for each in log.nccl), *log.runtime])
    plugins = list(dict.fromkeys(text for _, topic, text in log.notes if topic == "plugin"))
    hosts = {process.host for process in log.processes if process.host}
    many = len(log.processes)
    read = f"{plural(log.lines, 'line')} of {many:,} process{'' if many == 1 else 'es'}"
    lines: list[Labelled] = [("versions", (versions or "not told: they are in the output of the first rank",), None)]
    if plugins:
        lines.append(("plugins", (*plugins[:_MOST_ROWS],), None))
    lines.append(("read", (read + (f" on {plural(len(hosts), 'host')}" if hosts else ""),), None))
    return Section(title="versions and plugins", lines=tuple(lines))


def _group_section(told: Account) -> Section:
    shown = sorted(told.groups, key=lambda group: -(group.ranks or 0))[:_MOST_ROWS]
    rows = tuple(_group(group, told.groups.index(group)) for group in shown)
    notes = ["in log: ranks whose lines were read"]
    if any(group.init_ns for group in shown):
        notes.append("init: the longest of its ranks")
    if len(shown) < len(told.groups):
        notes.append(f"{len(told.groups) - len(shown)} more are in --format json")
    table = Table(
        columns=("#", "communicator", "ranks", "nodes", "in log", "channels", "calls", "init"),
        rows=rows,
        words=frozenset({"communicator", "in log"}),
        notes=tuple(notes),
        spare=("nodes", "channels", "init"),
    )
    stuck = [(f"#{told.groups.index(group)}", group) for group in told.groups if group.incomplete]
    lines = [
        (label, (f"ranks {numbers(group.incomplete)} began to create it and did not end",), Weight.FAILURE)
        for label, group in stuck[:_MOST_NAMES]
    ]
    return Section(title="ranks and communicators", table=table, lines=tuple(lines))


def _group(group: Group, place: int) -> tuple[str, ...]:
    made = "" if group.parent is None else f"split of #{group.parent}, color {group.color}"
    name = made or (f"{group.id:#x}" if group.id is not None else "")
    return (
        str(place),
        name,
        _number(group.ranks),
        _number(group.nodes),
        numbers(group.seen),
        _number(group.channels),
        f"{group.calls:,}",
        duration(group.init_ns) if group.init_ns is not None else "",
    )


def _topology(told: Account) -> Section:
    rows = tuple(_way(way) for way in told.ways[:_MOST_ROWS])
    table = Table(
        columns=("over", "GDR", "links", "channels"),
        rows=rows,
        words=frozenset({"over", "GDR"}),
        notes=("links: pairs of ranks, each direction by itself",),
    )
    lines: list[Labelled] = []
    drawn = [each for each in told.log.communicators if each.topology.rings]
    if drawn:
        largest = max(drawn, key=lambda each: each.ranks or 0)
        ways = dict.fromkeys(largest.topology.rings.values())
        rings = [" ".join(map(str, ring)) + (" ..." if len(ring) < (largest.ranks or 0) else "") for ring in ways]
        more = [f"and {len(rings) - _MOST_NAMES} other orders"] if len(rings) > _MOST_NAMES else []
        lines.append(("rings", (*rings[:_MOST_NAMES], *more), None))
        if any(each.topology.trees for each in told.log.communicators):
            channels = max(len(each.topology.trees) for each in told.log.communicators)
            lines.append(("trees", (plural(channels, "channel"),), None))
    return Section(title="topology", table=table if rows else None, lines=tuple(lines))


def _way(way: Way) -> tuple[str, ...]:
    gdr = ("yes" if way.is_gdr else "no") if way.transport in ("NET", "COLLNET") else ""
    return "/".join(filter(None, (way.transport, way.kind))), gdr, f"{way.pairs:,}", f"{way.channels:,}"


def _network(told: Account) -> Iterator[Labelled]:
    for topic, label in _TOPICS:
        texts = list(dict.fromkeys(text for _, named, text in told.log.notes if named == topic))
        if topic == "network":
            texts = [f"{name} ({_who(who)})" for name, who in told.networks.items()]
        more = [f"and {len(texts) - _MOST_NOTES} more"] if len(texts) > _MOST_NOTES else []
        if texts:
            yield label, (*texts[:_MOST_NOTES], *more), None
    if any((way.transport, way.kind) == ("NET", "Socket") for way in told.ways):
        yield "slow", (_TCP,), Weight.SLOW


def _choices(chosen: tuple[Chosen, ...]) -> Table:
    shown = sorted(chosen, key=lambda row: -row.calls)[:_MOST_ROWS]
    rows = tuple(_choice(row) for row in chosen if row in shown)
    notes = []
    if any(row.is_told for row in shown):
        notes.append("size with *: as NCCL's line says it, without a call of that size: since 2.24 a rank's part")
    if any(not row.choice.protocol and row.function not in P2P for row in shown):
        notes.append("without algorithm: only the first rank of a communicator tells it, with NCCL_DEBUG_SUBSYS=TUNING")
    if len(shown) < len(chosen):
        notes.append(f"{len(chosen) - len(shown)} rarer ones are in --format json")
    return Table(
        columns=("collective", "size", "algorithm", "protocol", "channels", "calls"),
        rows=rows,
        words=frozenset({"collective", "algorithm", "protocol"}),
        notes=tuple(notes),
    )


def _choice(row: Chosen) -> tuple[str, ...]:
    told = "" if row.size_bytes is None else size(row.size_bytes) + ("*" if row.is_told else "")
    choice = row.choice
    return row.function or "any", told, choice.algorithm, choice.protocol, _number(choice.channels), f"{row.calls:,}"


def _settings(settings: tuple[Setting, ...]) -> Iterator[Labelled]:
    for setting in settings[:_MOST_SETTINGS]:
        if setting.differs:
            texts = [f"{value} ({_who(who)})" for value, who in list(setting.values.items())[:_MOST_NAMES]]
            yield setting.name, ("differs between ranks: " + ", ".join(texts),), Weight.SLOW
        else:
            yield setting.name, tuple(setting.values), None
    if len(settings) > _MOST_SETTINGS:
        yield "...", (f"{len(settings) - _MOST_SETTINGS} more are in --format json",), None


def _warnings(told: Account) -> Iterator[Labelled]:
    for warning in told.warnings[:_MOST_WARNINGS]:
        known = MEANINGS.get(warning.code)
        texts = (f"{known.title}: {known.means}", f"try: {known.attempt}") if known else ()
        yield _times(warning.count), (f"{_who(warning.who)}: {warning.text}", *texts), warning.weight
    if len(told.warnings) > _MOST_WARNINGS:
        yield "...", (f"{len(told.warnings) - _MOST_WARNINGS} more are in --format json",), Weight.NOTE


def _times(count: int | None) -> str:
    return "" if count is None else f"{count:,} x"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _who(names: tuple[str, ...]) -> str:
    """Ranks drawn together; processes without a rank by name."""
    ranks = [int(name) for name in names if name.isdecimal()]
    others = [name for name in names if not name.isdecimal()]
    shown = [*others[:_MOST_NAMES], *(["..."] if len(others) > _MOST_NAMES else [])]
    told = [f"rank{'s' if len(ranks) > 1 else ''} {numbers(ranks)}"] if ranks else []
    return ", ".join([*told, *shown])
