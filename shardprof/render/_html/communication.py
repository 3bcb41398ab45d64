"""What was communicated: by kind, by group, by the size of calls, and what NCCL itself told."""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.analysis.result import CallSize, Collective, Nccl, NcclCalls, StepsSummary, Summary
from shardprof.render._html.figures import Axis, Figure, Mark, Part, View, bars, points
from shardprof.render._html.page import Section
from shardprof.render._nccl import nccl_table
from shardprof.render._palette import CLASS_LOOKS, HIDDEN
from shardprof.render._tables import Table, communication_table
from shardprof.render._text import cut
from shardprof.render._words import duration_if_known, rate_if_known, size_if_known
from shardprof.trace.classes import class_name
from shardprof.words import Scale, duration, plural, size_scale, time_scale

_MOST_ROWS = 100
_LONG = 80
_LOOKS = {class_name(name): look for name, look in CLASS_LOOKS.items()}
_UNKNOWN = "unknown"


def section(collectives: Sequence[Collective], summary: Summary) -> Section:
    """The section; empty where nothing was communicated."""
    steps = summary.steps
    if not steps or not steps.kinds:
        return Section(name="communication", short="Communication", title="Communication")
    by_group = _groups_table(collectives)
    return Section(
        name="communication",
        short="Communication",
        title="Communication",
        lines=_unrated(collectives),
        figures=(_by_kind(steps, summary.window), *_by_size(collectives)),
        tables=(("", _with_few_groups(communication_table(steps, collectives, summary.window))),),
        folded=(("By process group, over all captured steps", by_group),) if by_group.rows else (),
    )


def _with_few_groups(table: Table) -> Table:
    """The table without its groups where they are many: the table by group has them."""
    many = "group" in table.columns and any(len(row[table.columns.index("group")]) > _LONG for row in table.rows)
    return table.without("group") if many else table


def nccl_section(nccl: Nccl | None) -> Section:
    """NCCL's own account, or a flight recorder's, with its bandwidths."""
    if nccl is None or not nccl.calls:
        return Section(name="nccl", short="NCCL", title="Told by NCCL")
    rated = [(row, 1e9 * row.busbw_gbps) for row in nccl.calls if row.busbw_gbps and row.payload_bytes]
    marks = [Mark(kind=class_name(row.kind), x=row.payload_bytes or 0, y=rate, words=_told(row)) for row, rate in rated]
    table = nccl_table(nccl)
    figures = (points("Bus bandwidth of all calls", _rates(marks), marks, _LOOKS, table),) if marks else ()
    return Section(
        name="nccl", short="NCCL", title="Told by NCCL", figures=figures, tables=() if figures else (("", table),)
    )


def _told(row: NcclCalls) -> str:
    group = f" in {cut(row.group, _LONG)}" if row.group else ""
    times = "" if row.transfer_ns is None else f", {duration(row.transfer_ns)} each"
    calls = f"{plural(row.calls, 'call')} of {size_if_known(row.payload_bytes, _UNKNOWN)}"
    return f"{class_name(row.kind)}{group}: {calls}{times}, {rate_if_known(row.busbw_gbps)}"


def _by_kind(steps: StepsSummary, window: str) -> Figure:
    exposed = tuple(kind.exposed_ns / steps.count for kind in steps.kinds)
    hidden = tuple(kind.overlapped_ns / steps.count for kind in steps.kinds)
    labels = tuple(class_name(kind.kind).removesuffix(" communication") for kind in steps.kinds)
    parts = (
        Part(name="exposed", look=CLASS_LOOKS["all_gather"], values=exposed),
        Part(name="overlapped", look=HIDDEN, values=hidden),
    )
    return bars(
        f"Communication of a {window}, by kind",
        Axis(name="kind", scale=time_scale(map(sum, zip(exposed, hidden, strict=True)))),
        [View(labels=labels, parts=parts)],
        notes=("mean of all ranks; exposed: the step waits for it; overlapped: it runs under compute",),
    )


def _by_size(collectives: Sequence[Collective]) -> tuple[Figure, ...]:
    """Bandwidth against the size of a call, where waiting for others could be told from moving bytes."""
    pairs = [(row, of_size) for row in collectives for of_size in row.sizes]
    most = sorted(pairs, key=lambda pair: -pair[1].calls * pair[1].median_ns)[:_MOST_ROWS]
    marks = [
        Mark(kind=class_name(row.kind), x=one.payload_bytes, y=1e9 * one.busbw_gbps, words=_words(row, one))
        for row, one in most
        if one.payload_bytes and one.busbw_gbps
    ]
    if not marks:
        return ()
    hidden = len(pairs) - len(most) + sum(row.sizes_left_out for row in collectives)
    notes = (
        "a point a size and group; bandwidth from the moment the last rank has come, the median over calls",
        *((f"{plural(hidden, 'size')} that took less time in all are not shown",) if hidden else ()),
    )
    return (points("Bus bandwidth by size of calls", _rates(marks), marks, _LOOKS, _sizes_table(most), notes),)


def _unrated(collectives: Sequence[Collective]) -> tuple[str, ...]:
    """Why there is no bandwidth against size, where there is none."""
    if any(one.busbw_gbps for row in collectives for one in row.sizes):
        return ()
    sized = any(one.payload_bytes for row in collectives for one in row.sizes)
    why = "to tell moving bytes from waiting takes several ranks" if sized else "traces do not tell what calls carry"
    return (f"Bandwidth against the size of calls is not known: {why}.",)


def _rates(marks: Sequence[Mark]) -> Scale:
    scale = size_scale(mark.y for mark in marks)
    return Scale(unit=f"{scale.unit}/s", divisor=scale.divisor, decimals=max(scale.decimals, 2))


def _words(row: Collective, of_size: CallSize) -> str:
    calls = f"{plural(of_size.calls, 'call')} of {size_if_known(of_size.payload_bytes, _UNKNOWN)}"
    each = f"{duration_if_known(of_size.transfer_ns)} each, {rate_if_known(of_size.busbw_gbps)}"
    return f"{class_name(row.kind)} in {_group(row)}: {calls}, {each}"


def _sizes_table(pairs: Sequence[tuple[Collective, CallSize]]) -> Table:
    ordered = sorted(pairs, key=lambda pair: (pair[0].kind, pair[0].group, pair[1].payload_bytes or 0))
    return Table(
        columns=("kind", "group", "bytes a call", "calls", "a call", "waiting", "transfer", "busbw"),
        rows=tuple(
            (
                class_name(row.kind),
                _group(row),
                _UNKNOWN if one.payload_bytes is None else f"{one.payload_bytes:,}",
                f"{one.calls:,}",
                duration(one.median_ns),
                duration_if_known(one.wait_ns),
                duration_if_known(one.transfer_ns),
                rate_if_known(one.busbw_gbps),
            )
            for row, one in ordered
        ),
        words=frozenset({"kind", "group"}),
        notes=("medians; a call: on one rank, its wait for others included",),
    )


def _groups_table(collectives: Sequence[Collective]) -> Table:
    shown = sorted(collectives, key=lambda row: -(row.transfer_ns or 0) - (row.wait_ns or 0))[:_MOST_ROWS]
    hidden = len(collectives) - len(shown)
    return Table(
        columns=("kind", "group", "calls", "payload", "wire", "waiting", "transfer", "algbw", "busbw"),
        rows=tuple(
            (
                class_name(row.kind),
                _group(row),
                f"{row.calls:,}",
                size_if_known(row.payload_bytes, _UNKNOWN),
                size_if_known(row.wire_bytes, _UNKNOWN),
                duration_if_known(row.wait_ns),
                duration_if_known(row.transfer_ns),
                rate_if_known(row.algbw_gbps),
                rate_if_known(row.busbw_gbps),
            )
            for row in shown
        ),
        words=frozenset({"kind", "group"}),
        notes=(
            "wire: what each rank sends; waiting: for the last rank, in the mean over ranks",
            *((f"{plural(hidden, 'row')} more in --format json",) if hidden else ()),
        ),
    )


def _group(row: Collective) -> str:
    ranks = "" if row.group_size is None else plural(row.group_size, "rank")
    nodes = f"{row.nodes} nodes" if row.nodes and row.nodes > 1 else ""
    more = ", ".join(part for part in (ranks if ranks != row.group else "", nodes, row.dimension or "") if part)
    name = cut(row.group, _LONG)
    return f"{name} ({more})" if more else name
