"""Flame graphs of the time spent in stacks: as collapsed text for speedscope, inferno, flamegraph.pl, and as a picture.

The picture is one flame graph a thread, all on one scale, outermost calls on top. Names are anything at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from shardprof.recording.beside.stacks.sampled_calls import MAIN_THREAD
from shardprof.trace.whole import appearing

WIDTH, ROW, MARGIN = 1200, 16, 10
CHARACTER = 6.2  # the width of one at the size of the text
LEAST_WIDTH = 0.5

_NO_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Where a thread communicates or waits for another one.
_WAITS = re.compile(
    r"\((?:torch/distributed/distributed_c10d|queue|selectors|multiprocessing/connection)\.py:"
    r"|\b(?:wait|join|acquire|_wait_for_tstate_lock) \(threading\.py:|\bsynchronize \(torch/"
)
_COLORS = {"waits": "#8fb8de", "torch": "#f2c879", "other": "#f09a6a", "thread": "#dddddd"}


@dataclass(slots=True)
class _Node:
    name: str
    total_us: int = 0
    inner: dict[str, _Node] = field(default_factory=dict)


def folded(stack_us: Mapping[str, int]) -> str:
    """Collapsed stacks: a line a stack, outermost call first, and its own microseconds."""
    return "".join(f"{stack} {time_us}\n" for stack, time_us in sorted(stack_us.items()))


def svg(title: str, stack_us: Mapping[str, int]) -> str:
    """A picture that a browser opens by itself; each box tells its call and its time when pointed at."""
    threads = sorted(_tree(stack_us).inner.values(), key=lambda thread: (thread.name != MAIN_THREAD, -thread.total_us))
    scale = (WIDTH - 2 * MARGIN) / max([thread.total_us for thread in threads], default=1)
    boxes, top = [], 3 * ROW
    for thread in threads:
        rows = 0
        for node, left_us, depth in _walk(thread, LEAST_WIDTH / scale):
            boxes.append(_box(node, MARGIN + left_us * scale, top + depth * ROW, node.total_us * scale, depth))
            rows = max(rows, depth + 1)
        top += (rows + 1) * ROW
    legend = f"{title} · blue: communicates or waits, yellow: torch, orange: other"
    size = f'width="{WIDTH}" height="{top}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="10">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="{MARGIN}" y="{1.5 * ROW:g}" font-size="12">{_text(legend)}</text>\n{"".join(boxes)}</svg>\n'
    )


def write_text(path: Path, text: str) -> None:
    """Replace `path` by the text, whole."""
    with appearing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def _tree(stack_us: Mapping[str, int]) -> _Node:
    root = _Node("")
    for stack, time_us in stack_us.items():
        node = root
        for name in stack.split(";"):
            node = node.inner.setdefault(name, _Node(name))
            node.total_us += time_us
    return root


def _walk(root: _Node, least_us: float) -> Iterator[tuple[_Node, int, int]]:
    """Each call that is wide enough to be seen, with where it begins and how deep it is."""
    unseen = [(root, 0, 0)]
    while unseen:
        node, left_us, depth = unseen.pop()
        if node.total_us < least_us:
            continue
        yield node, left_us, depth
        for inner in sorted(node.inner.values(), key=lambda inner: inner.name):
            unseen.append((inner, left_us, depth + 1))
            left_us += inner.total_us


def _box(node: _Node, x: float, y: int, width: float, depth: int) -> str:
    shown = node.name[: int((width - 4) / CHARACTER)] if width > 4 * CHARACTER else ""
    label = f'<text x="{x + 2:.1f}" y="{y + 11}">{_text(shown)}</text>' if shown else ""
    return (
        f"<g><title>{_text(node.name)}: {node.total_us / 1e6:.3f} s</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{_COLORS[_kind(node, depth)]}"/>'
        f"{label}</g>\n"
    )


def _kind(node: _Node, depth: int) -> str:
    if depth == 0:
        return "thread"
    if _WAITS.search(node.name):
        return "waits"
    return "torch" if "(torch/" in node.name else "other"


def _text(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))
