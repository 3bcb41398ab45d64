"""What the training ran on, and what is noticed and doubtful about it: links, clocks, settings, quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shardprof.analysis.result import Result
from shardprof.render._html.page import Section, sentence
from shardprof.render._tables import Table
from shardprof.render._words import duration_if_known
from shardprof.trace.across.clock_of_rank import RankClock
from shardprof.words import duration, plural

_MOST_ROWS = 64


def section(result: Result, links: tuple[str, ...], notices: tuple[str, ...]) -> Section:
    """The section, `links` and `notices` being the words for these."""
    source = result.source
    clock = [row for row in result.clock or () if row.offset_ns is not None]
    run = _settings_table({"command": source.command, "framework": source.framework, **source.settings})
    tables = [
        ("How the ranks' clocks relate", _clock_table(clock)),
        ("What was run", run),
        ("Versions", _settings_table(source.versions)),
        ("Environment", _settings_table(source.environment)),
    ]
    return Section(
        name="machines",
        short="Machines",
        title="Machines and settings",
        lines=(*(sentence(f"noticed: {line}") for line in notices), *(sentence(f"links of {line}") for line in links)),
        folded=tuple((title, table) for title, table in tables if table.rows),
    )


def quality_section(result: Result, doubts: Sequence[str]) -> Section:
    """What was lost or is doubtful; `doubts` are the words for that."""
    told = tuple(map(sentence, doubts))
    table = Table(
        columns=("code", "count", "message"),
        rows=tuple((q.code, "" if q.count is None else f"{q.count:,}", q.message) for q in result.quality[:_MOST_ROWS]),
        words=frozenset({"code", "message"}),
        notes=_hidden(result.quality),
    )
    return Section(
        name="quality",
        short="Quality",
        title="Quality",
        lines=told or ("Nothing is known to be lost or doubtful.",),
        folded=(("All of it, by code", table),) if table.rows else (),
    )


def _clock_table(rows: Sequence[RankClock]) -> Table:
    """The clocks that are the furthest off, by what remains."""
    shown = sorted(sorted(rows, key=lambda row: -(row.residual_ns or 0))[:_MOST_ROWS], key=lambda row: row.rank)
    hidden = len(rows) - len(shown)
    return Table(
        columns=("rank", "offset", "drift (ppm)", "residual"),
        rows=tuple(
            (
                str(row.rank),
                _signed(row.offset_ns),
                "" if row.drift_ppm is None else f"{row.drift_ppm:,.2f}",
                duration_if_known(row.residual_ns),
            )
            for row in shown
        ),
        words=frozenset(),
        notes=(
            "against the lowest rank's clock; residual: how far apart the ends of shared collectives remain",
            *((f"{plural(hidden, 'rank')} more in --format json",) if hidden else ()),
        ),
    )


def _signed(time_ns: int | None) -> str:
    return "" if time_ns is None else f"{'-' if time_ns < 0 else ''}{duration(abs(time_ns))}"


def _settings_table(settings: Mapping[str, Any]) -> Table:
    told = [(str(name), str(value)) for name, value in settings.items() if value not in (None, "", {}, [])]
    return Table(
        columns=("", "value"), rows=tuple(told[:_MOST_ROWS]), words=frozenset({"", "value"}), notes=_hidden(told)
    )


def _hidden(rows: Sequence[object]) -> tuple[str, ...]:
    hidden = len(rows) - _MOST_ROWS
    return (f"{plural(hidden, 'row')} more in --format json",) if hidden > 0 else ()
