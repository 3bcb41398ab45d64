"""What the classes of a step, and lines of a chart, look like: on light and dark grounds, and without colours."""

from __future__ import annotations

from shardprof.analysis.result import GROUPS
from shardprof.trace.classes import CLASSES

Look = tuple[str, str]
"""A colour, and the pattern drawn over it (as Plotly names them)."""

CLASS_LOOKS: dict[str, Look] = {
    "compute": ("#4a90d9", ""),
    "all_gather": ("#d0568b", "/"),
    "reduce_scatter": ("#a43c9c", "\\"),
    "all_reduce": ("#e8848f", "x"),
    "all_to_all": ("#8c2f5e", "-"),
    "broadcast": ("#e6a06b", "|"),
    "p2p": ("#b5566a", "+"),
    "other_comm": ("#8f6b7d", "."),
    "memcpy": ("#6aa84f", "\\"),
    "memset": ("#a3c585", "x"),
    "data_loading": ("#d9a400", "|"),
    "launch_bound": ("#9b6dd0", "."),
    "idle": ("#9aa4ae", ""),
}
assert set(CLASS_LOOKS) == set(CLASSES)

GROUP_COLOURS = {group: CLASS_LOOKS[classes[0]][0] for group, classes in GROUPS.items()}
"""A group of classes has the colour of its first one."""

LINE_COLOURS = ("#1f77d0", "#d2691e", "#3a9d3a", "#c2557a", "#159a9a", "#d9a400", "#6a5acd", "#8c5a2b")
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")

NEEDED, EXPECTED, MEASURED = ("#9aa4ae", ""), ("#5aa9e6", "/"), ("#d2691e", "")
LONGER, SHORTER, WHOLE = ("#d0568b", "/"), ("#3a9d3a", "\\"), ("#4a90d9", "")
SIDES = (("#1f77d0", ""), ("#d2691e", "/"))
HIDDEN: Look = ("#c9ced4", ".")


def line_look(index: int) -> dict[str, str]:
    """The colour, dash and symbol of the line of that number; those of a chart differ in at least one."""
    turn = index // len(LINE_COLOURS)
    return {
        "colour": LINE_COLOURS[index % len(LINE_COLOURS)],
        "dash": DASHES[turn % len(DASHES)],
        "symbol": SYMBOLS[index % len(SYMBOLS)],
    }
