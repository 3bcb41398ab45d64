"""What a notebook shows of a run, a breakdown and a comparison: HTML for a cell's output, and text for a shell.

No script and no style sheet: styles are inline, colours those of the HTML report, everything else is the notebook's
own, light or dark. Whatever came from a trace is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.analysis.result import Result
from shardprof.render._compare_view import Bar, compare_view, waterfall_begin_ns
from shardprof.render._findings import FindingText
from shardprof.render._jinja import template
from shardprof.render._palette import GROUP_COLOURS, LONGER, SHORTER, WHOLE
from shardprof.render._tables import SHORT_NAMES
from shardprof.render._view import GROUP_NAMES, view
from shardprof.render._words import percent
from shardprof.trace.classes import class_name
from shardprof.words import printable, time_scale

_MOST_RANKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a bar, "" for a gap: what it stands for, and its share of the whole bar's width."""

    words: str
    colour: str
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A row of a table with a bar in it; `words` say what the bar shows."""

    cells: tuple[str, ...]
    pieces: tuple[Piece, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An output from top to bottom; what there is nothing to say about is empty. `words` are columns that hold words,
    the bars come before the cell of index `bars_at`."""

    title: str
    about: tuple[str, ...] = ()
    sides: tuple[tuple[str, str], ...] = ()
    verdict: str = ""
    warnings: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    bars: tuple[Drawn, ...] = ()
    bars_at: int = 0
    legend: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[FindingText, ...] = ()
    remarks: tuple[tuple[str, tuple[str, ...]], ...] = ()


def report_html(result: Result) -> str:
    """A run: its verdict, a bar of the classes for each rank, what to change. ValueError where it has no summary."""
    told = view(result)
    table = told.ranks
    rows = list(zip(table.rows, table.bars, strict=True))[:_MOST_RANKS] if table else []
    hidden = len(table.rows) - len(rows) if table else 0
    return _html(
        Shown(
            title=told.title,
            about=told.about,
            verdict=told.verdict,
            figures=told.figures,
            columns=(*table.columns[: table.bars_at], "", *table.columns[table.bars_at :]) if table else (),
            words=table.words if table else frozenset(),
            bars=tuple(_of_classes(cells, shares) for cells, shares in rows),
            bars_at=table.bars_at if table else 0,
            legend=tuple((GROUP_COLOURS[group], GROUP_NAMES.get(group, class_name(group))) for group in told.groups),
            notes=(*(table.notes if table else ()), *([f"{hidden:,} more ranks: .steps()"] if hidden else [])),
            findings=told.findings,
            remarks=_remarks(("late", told.late), ("noticed", told.notices), ("doubtful", told.doubts)),
        )
    )


def breakdown_html(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    """The totals of ranks as bars, from rows of `Run.breakdown`."""
    shown = rows[:_MOST_RANKS]
    scale = time_scale(_number(row, "span_ns") for row in shown)
    groups = ("compute", "communication", "copies", "idle")
    times = [_groups_ns(row) for row in shown]
    used = [group for group in groups if any(of_rank[group] for of_rank in times)]
    return _html(
        Shown(
            title=title,
            columns=("rank", f"trace ({scale.unit})", "", *(SHORT_NAMES[group] for group in used)),
            bars=tuple(
                _of_classes(
                    (
                        str(row["rank"]),
                        scale.figure(_number(row, "span_ns")) if row["span_ns"] is not None else "nothing ran",
                        *(_figure(of_rank, group) for group in used),
                    ),
                    {group: _share(of_rank, group) for group in used},
                )
                for row, of_rank in zip(shown, times, strict=True)
            ),
            bars_at=2,
            legend=tuple((GROUP_COLOURS[group], GROUP_NAMES.get(group, class_name(group))) for group in used),
            notes=(f"{len(rows) - len(shown):,} more ranks",) if len(rows) > len(shown) else (),
        )
    )


def comparison_html(comparison: Comparison) -> str:
    """A comparison: its verdict, and as bars what the difference of the mean steps consists of."""
    told = compare_view(comparison)
    return _html(
        Shown(
            title=told.title,
            sides=told.sides,
            verdict=told.verdict,
            warnings=(told.warning,) if told.warning else (),
            columns=("mean step", "", "") if told.waterfall else (),
            words=frozenset({"mean step"}),
            bars=_waterfall(told.waterfall),
            bars_at=2,
            notes=(told.waterfall_note,) if told.waterfall else (),
            remarks=_remarks(*told.remarks),
        )
    )


def comparison_text(comparison: Comparison) -> str:
    """The verdict of a comparison, in lines that are safe to print."""
    told = compare_view(comparison)
    return "\n".join(printable(line) for line in (told.title, told.verdict, told.warning) if line)


def _html(shown: Shown) -> str:
    return template(Path(__file__).parent, "_notebook.html.jinja").render(shown=shown)


def _of_classes(cells: tuple[str, ...], shares: Mapping[str, float]) -> Drawn:
    told = {group: f"{GROUP_NAMES.get(group, class_name(group))} {percent(share)}" for group, share in shares.items()}
    pieces = tuple(
        Piece(words=told[group], colour=GROUP_COLOURS[group], percent=100 * share)
        for group, share in shares.items()
        if share
    )
    return Drawn(cells=cells, pieces=pieces, words=", ".join(told.values()))


def _waterfall(bars: Sequence[Bar]) -> tuple[Drawn, ...]:
    begin_ns = waterfall_begin_ns(bars)
    most_ns = max((max(bar.begin_ns, bar.end_ns) for bar in bars), default=0)
    return tuple(_of_change(bar, begin_ns, most_ns) for bar in bars)


def _of_change(bar: Bar, begin_ns: int, most_ns: int) -> Drawn:
    first, last = sorted((max(begin_ns, bar.begin_ns), max(begin_ns, bar.end_ns)))
    width_ns = max(1, most_ns - begin_ns)
    colour = (LONGER if bar.change > 0 else SHORTER if bar.change < 0 else WHOLE)[0]
    gap = Piece(words="", colour="", percent=100 * (first - begin_ns) / width_ns)
    piece = Piece(words=f"{bar.label} {bar.figure}", colour=colour, percent=max(0.5, 100 * (last - first) / width_ns))
    return Drawn(cells=(bar.label, bar.figure), pieces=(gap, piece), words=piece.words)


def _groups_ns(row: Mapping[str, object]) -> dict[str, int]:
    """What the span went to; copies are what neither computes nor communicates and is busy."""
    compute, exposed = _number(row, "compute_ns"), _number(row, "exposed_comm_ns")
    return {
        "compute": compute,
        "communication": exposed,
        "copies": _number(row, "busy_ns") - compute - exposed,
        "idle": _number(row, "idle_ns"),
    }


def _figure(times_ns: Mapping[str, int], group: str) -> str:
    return percent(_share(times_ns, group)).removesuffix(" %") if any(times_ns.values()) else ""


def _share(times_ns: Mapping[str, int], group: str) -> float:
    return times_ns[group] / (sum(times_ns.values()) or 1)


def _number(row: Mapping[str, object], name: str) -> int:
    value = row[name]
    return value if isinstance(value, int) else 0


def _remarks(*remarks: tuple[str, tuple[str, ...]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((label, lines) for label, lines in remarks if lines)
