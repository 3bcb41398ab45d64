"""Charts as SVG that needs no script: each with a title and a description, readable at the width of a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from shardprof.render._palette import GROUP_COLOURS
from shardprof.render._view import GROUP_NAMES
from shardprof.study.conclusions.phrases import rate
from shardprof.study.render._section import Bars, Chart, Line, Lines, Stacks
from shardprof.study.render._style import SERIES
from shardprof.trace.classes import class_name
from shardprof.words import printable

_WIDTH = 400
_ROW, _BAR, _WHISKER = 31, 9, 3
_PLOT_HEIGHT = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 8, 38
_MOST_TICKS = 5
_MARKS = ("circle", "square", "diamond", "triangle")
_DASHES = ("", "6 3", "2 3")
_FEW_POINTS = 12
_Scale = Callable[[float], float]


def figure(chart: Chart, number: int) -> Iterator[str]:
    """A chart with its caption and legend; `number` makes its title's name unique on the page."""
    content, height = _drawn(chart)
    title = f"chart-{number}"
    yield f"<figure><figcaption>{_text(_caption(chart))}</figcaption>"
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{title}">'
    yield f'<title id="{title}">{_text(_description(chart))}</title>'
    yield from content
    yield "</svg>"
    yield from _legend(chart)
    yield "</figure>"


def _text(text: str) -> str:
    return escape(printable(text))


def _caption(chart: Chart) -> str:
    return chart.title if isinstance(chart, Lines) else f"{chart.title} ({chart.unit})"


def _description(chart: Chart) -> str:
    """What someone who does not see it is told; the figures are in the table beside it."""
    if isinstance(chart, Bars):
        return f"{chart.title}: " + "; ".join(f"{bar.label} {bar.text}" for bar in chart.bars)
    if isinstance(chart, Stacks):
        totals = (f"{label} {_total(parts)} {chart.unit}" for label, parts in chart.rows)
        return f"{chart.title}: {'; '.join(totals)}"
    return f"{chart.title}, {chart.y} of {len(chart.lines)} configurations"


def _total(parts: Mapping[str, float]) -> str:
    """The length of a step, in milliseconds."""
    return rate(sum(parts.values()) / 1e6)


def _drawn(chart: Chart) -> tuple[list[str], int]:
    if isinstance(chart, Bars):
        return list(_bars(chart)), len(chart.bars) * _ROW + 4
    if isinstance(chart, Stacks):
        return list(_stacks(chart)), len(chart.rows) * _ROW + 4
    return list(_lines(chart)), _PLOT_HEIGHT + _TOP + _BOTTOM


def _bars(chart: Bars) -> Iterator[str]:
    most = max(bar.value if bar.high is None else bar.high for bar in chart.bars)
    for index, bar in enumerate(chart.bars):
        top = index * _ROW
        yield from _row_words(top, bar.label, bar.text)
        middle = top + 18 + _BAR / 2
        yield _rectangle(0, top + 18, _WIDTH * bar.value / most, SERIES[bar.family][0])
        if bar.low is not None and bar.high is not None:
            low, high = (min(max(_WIDTH * end / most, 1), _WIDTH - 1) for end in (bar.low, bar.high))
            ends = "".join(f"M{end:.1f} {middle - _WHISKER}v{2 * _WHISKER}" for end in (low, high))
            yield _path(f"M{low:.1f} {middle}H{high:.1f}{ends}", 'class="whisker" stroke-width="1.5"')


def _stacks(chart: Stacks) -> Iterator[str]:
    longest = max(sum(parts.values()) for _, parts in chart.rows)
    for index, (label, parts) in enumerate(chart.rows):
        top, at = index * _ROW, 0.0
        yield from _row_words(top, label, f"{_total(parts)} {chart.unit}")
        for group, colour in GROUP_COLOURS.items():
            width = _WIDTH * parts.get(group, 0.0) / longest
            if width > 0:
                yield _rectangle(at, top + 18, width, colour)
            at += width


def _row_words(top: float, label: str, text: str) -> Iterator[str]:
    yield f'<text x="0" y="{top + 13}">{_text(label)}</text>'
    yield f'<text x="{_WIDTH}" y="{top + 13}" text-anchor="end" class="dim">{_text(text)}</text>'


def _rectangle(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{max(width, 0.5):.1f}" height="{_BAR}" fill="{colour}"/>'


def _path(d: str, attributes: str) -> str:
    return f'<path d="{d}" fill="none" {attributes}/>'


def _lines(chart: Lines) -> Iterator[str]:
    xs = [x for line in chart.lines for x, *_ in line.points]
    ys = [end for line in chart.lines for _, *values in line.points for end in values if end is not None]
    log_y = chart.log_y and min(ys) > 0
    x_range = (min(xs), max(xs)) if chart.log_x or min(xs) > 0.5 * max(xs) else (0.0, max(xs))
    x_of = _scale(*x_range, _LEFT, _WIDTH - _RIGHT, log=chart.log_x)
    y_of = _scale(min(ys) if log_y else 0.0, max(ys), _TOP + _PLOT_HEIGHT, _TOP, log=log_y)
    yield from _y_axis(y_of, _ticks(min(ys), max(ys), log=log_y), chart.y)
    yield from _x_axis(x_of, chart.ticks or tuple((x, _tick(x)) for x in _ticks(*x_range, log=False)), chart.x)
    for line in chart.lines:
        yield from _line(line, x_of, y_of)


def _scale(low: float, high: float, begin: float, end: float, *, log: bool) -> _Scale:
    """From a value to its place; a range of nothing lies in the middle."""
    first, last = (math.log(low), math.log(high)) if log else (low, high)
    if first == last:
        return lambda _: (begin + end) / 2
    return lambda value: begin + (end - begin) * ((math.log(value) if log else value) - first) / (last - first)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round values inside the range; some inside it where it is too narrow for these."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        rounds = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        inside = [value for value in rounds if low <= value <= high]
        return inside if len(inside) > 1 else [low * (high / low) ** (i / _MOST_TICKS) for i in range(_MOST_TICKS + 1)]
    step = 10 ** math.floor(math.log10(high / _MOST_TICKS)) if high > 0 else 1.0
    step *= next(factor for factor in (1, 2, 5, 10) if high / (factor * step) <= _MOST_TICKS + 0.01)
    return [step * i for i in range(math.floor(high / step) + 1)]


def _y_axis(y_of: _Scale, ticks: Sequence[float], words: str) -> Iterator[str]:
    for value in ticks:
        y = y_of(value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text class="dim" x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>'
    middle = _TOP + _PLOT_HEIGHT / 2
    turned = f'transform="rotate(-90 10 {middle})" x="10" y="{middle}"'
    yield f'<text class="dim" {turned} text-anchor="middle">{_text(words)}</text>'


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.3g}"


def _x_axis(x_of: _Scale, ticks: Sequence[tuple[float, str]], words: str) -> Iterator[str]:
    bottom = _TOP + _PLOT_HEIGHT
    yield f'<path class="grid" d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}"/>'
    for value, shown in ticks:
        x = x_of(value)
        anchor = "end" if x > _WIDTH - 40 else "middle"
        yield f'<path class="grid" d="M{x:.1f} {bottom}v4"/>'
        yield f'<text class="dim" x="{x:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{_text(shown)}</text>'
    yield f'<text class="dim" x="{(_LEFT + _WIDTH) / 2}" y="{bottom + 32}" text-anchor="middle">{_text(words)}</text>'


def _line(line: Line, x_of: _Scale, y_of: _Scale) -> Iterator[str]:
    colour, dash, mark = _look(line)
    at = [(x_of(x), y_of(y)) for x, y, *_ in line.points]
    yield f"<g><title>{_text(line.label)}</title>"
    yield _path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at), f'stroke="{colour}" stroke-width="1.6" {dash}')
    for x, _, low, high in line.points:
        if low is not None and high is not None:
            yield _path(f"M{x_of(x):.1f} {y_of(low):.1f}V{y_of(high):.1f}", f'stroke="{colour}"')
    if len(at) <= _FEW_POINTS:
        yield from (_mark(mark, x, y, colour) for x, y in at)
    yield "</g>"


def _look(line: Line) -> tuple[str, str, str]:
    """A line's colour, dashes and mark: no two of a family look alike."""
    colours = SERIES[line.family]
    dash = _DASHES[line.style // len(colours) % len(_DASHES)]
    return (
        colours[line.style % len(colours)],
        f'stroke-dasharray="{dash}"' if dash else "",
        _MARKS[line.style % len(_MARKS)],
    )


def _mark(mark: str, x: float, y: float, colour: str) -> str:
    shapes = {
        "circle": "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0",
        "square": "m-3 -3h6v6h-6z",
        "diamond": "m0 -4.5l4 4.5l-4 4.5l-4 -4.5z",
        "triangle": "m0 -4l4 7h-8z",
    }
    return f'<path d="M{x:.1f} {y:.1f}{shapes[mark]}" fill="{colour}"/>'


def _legend(chart: Chart) -> Iterator[str]:
    if isinstance(chart, Bars):
        return
    yield '<ul class="legend">'
    if isinstance(chart, Stacks):
        used = [group for group in GROUP_COLOURS if any(parts.get(group) for _, parts in chart.rows)]
        for group in used:
            box = f'<rect width="26" height="12" fill="{GROUP_COLOURS[group]}"/>'
            yield _entry(box, GROUP_NAMES.get(group, class_name(group)))
    else:
        for line in chart.lines:
            colour, dash, mark = _look(line)
            drawn = _path("M0 6H26", f'stroke="{colour}" stroke-width="2" {dash}') + _mark(mark, 13, 6, colour)
            yield _entry(drawn, line.label)
    yield "</ul>"


def _entry(drawing: str, words: str) -> str:
    return f'<li><svg viewBox="0 0 26 12" aria-hidden="true">{drawing}</svg> {_text(words)}</li>'
