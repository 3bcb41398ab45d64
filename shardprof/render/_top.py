"""A running job on one screen: the ranks with their phases as a bar, their counters, the nodes, the last capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from shardprof.analysis.live import RankNow
from shardprof.render._words import percent
from shardprof.trace.classes import class_name
from shardprof.words import duration, plural, printable, size

_GLYPHS = {
    "data": ("▄", "blue"),
    "forward": ("█", "cyan"),
    "backward": ("▓", "cyan"),
    "optimizer": ("▒", "green"),
    "other": ("·", "bright_black"),
}
_BAR = 24
_UNBOUNDED = 10_000
_Counter = tuple[str, str, Callable[[float], str]]
_COUNTERS: tuple[_Counter, ...] = (
    ("CPU", "cpu", percent),
    ("memory", "rss_bytes", size),
    ("threads", "threads", lambda value: f"{value:,.0f}"),
    ("GPU", "gpu_utilization_percent", lambda value: f"{value:.0f} %"),
    ("SM clock", "gpu_sm_clock_mhz", lambda value: f"{value:,.0f} MHz"),
    ("power", "gpu_power_w", lambda value: f"{value:.0f} W"),
    ("GPU mem", "gpu_memory_used_bytes", size),
    ("°C", "gpu_temperature_c", lambda value: f"{value:.0f}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What `top` shows: the heading, the ranks, each node's counters by subject, what the last capture showed."""

    title: str
    state: str
    ranks: Sequence[RankNow]
    nodes: Mapping[str, Mapping[str, Mapping[str, float]]]
    captured: Mapping[str, float]
    captured_steps: str


def draw(screen: Screen, most_ranks: int) -> RenderableType:
    """The screen; of more ranks than `most_ranks` those that are behind come first."""
    heading = Text(printable(f"shardprof top  {screen.title}"), style="bold")
    parts: list[RenderableType] = [heading, Text(f"  {printable(screen.state)}"), Text()]
    if screen.ranks:
        shown = sorted(screen.ranks, key=lambda rank: (not rank.remark, rank.rank))[:most_ranks]
        parts += [_Ranks(sorted(shown, key=lambda rank: rank.rank)), _legend(screen.ranks)]
        if len(shown) < len(screen.ranks):
            parts.append(Text(f"  and {plural(len(screen.ranks) - len(shown), 'rank')} more", style="dim"))
    else:
        parts.append(Text("  no rank has checked in yet", style="dim"))
    parts += [Text(), *(_node(name, subjects) for name, subjects in screen.nodes.items())]
    if screen.captured:
        parts.append(_captured(screen.captured, screen.captured_steps))
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Ranks:
    """A line a rank, at any width: first the bars become shorter, then counters go, the last one first."""

    ranks: Sequence[RankNow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        known = [counter for counter in _COUNTERS if any(counter[1] in _values(rank) for rank in self.ranks)]
        ways = [(known, _BAR), *((known[:count], _BAR // 2) for count in range(len(known), -1, -1))]
        tables = (_table(self.ranks, counters, bar) for counters, bar in ways)
        unbounded = options.update_width(_UNBOUNDED)
        fitting = (t for t in tables if Measurement.get(console, unbounded, t).maximum <= options.max_width)
        yield next(fitting, _table(self.ranks, [], 0))


def _table(ranks: Sequence[RankNow], counters: Sequence[_Counter], bar: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    bars = ["phases of a step" if bar >= _BAR else "phases"] if bar else []
    for label in ("  rank", "host", "step", "phase", "a step", *bars, *(label for label, _, _ in counters), ""):
        is_text = label in ("host", "phase", *bars, "")
        table.add_column(label, justify="left" if is_text else "right", no_wrap=True)
    for rank in ranks:
        values = _values(rank)
        cells: list[RenderableType] = [words(values[name]) if name in values else "" for _, name, words in counters]
        if bar:
            cells.insert(0, _bar(rank, bar))
        step = duration(rank.step_ns) if rank.step_ns is not None else ""
        style = "yellow" if rank.remark else ""
        phase = rank.phase if rank.phase_ns < 1e9 or not rank.phase else f"{rank.phase} {rank.phase_ns / 1e9:.0f} s"
        table.add_row(
            str(rank.rank), printable(rank.host), f"{rank.step:,}", printable(phase), step, *cells,
            Text(printable(rank.remark), style="bold yellow"), style=style,
        )  # fmt: skip
    return table


def _values(rank: RankNow) -> dict[str, float]:
    """The counters, and the two CPU times as one: cores in use."""
    values = dict(rank.counters)
    if "cpu_user_s" in values:
        values["cpu"] = values["cpu_user_s"] + values.get("cpu_system_s", 0)
    return values


def _bar(rank: RankNow, width: int) -> Text:
    bar = Text()
    drawn = sum_ns = 0
    for phase, time_ns in rank.phases_ns.items():
        sum_ns += time_ns
        end = round(width * sum_ns / max(sum(rank.phases_ns.values()), 1))
        glyph, colour = _GLYPHS[phase]
        bar.append(glyph * (end - drawn), style=colour)
        drawn = end
    return bar


def _legend(ranks: Sequence[RankNow]) -> Text:
    legend = Text("  ")
    for phase, (glyph, colour) in _GLYPHS.items():
        if any(rank.phases_ns.get(phase) for rank in ranks):
            legend.append(glyph, style=colour).append(f" {phase}   ", style="dim")
    return legend


def _node(name: str, subjects: Mapping[str, Mapping[str, float]]) -> Text:
    node = subjects.get("node", {})
    figures = []
    if "cpu_percent" in node:
        figures.append(f"CPU {node['cpu_percent']:.0f} %")
    if "memory_used_bytes" in node:
        figures.append(
            f"memory {size(node['memory_used_bytes'])} used, {size(node.get('memory_available_bytes', 0))} left"
        )
    for subject, values in subjects.items():
        if values.get("tx_bytes") or values.get("rx_bytes"):
            figures.append(f"{subject} ↑ {size(values.get('tx_bytes', 0))}/s ↓ {size(values.get('rx_bytes', 0))}/s")
    return Text(printable(f"  {name}  {'   '.join(figures)}"))


def _captured(shares: Mapping[str, float], which: str) -> Text:
    groups = [f"{class_name(group)} {percent(share)}" for group, share in shares.items() if share > 0]
    return Text(printable(f"  captured {which}   {'   '.join(groups)}"))
