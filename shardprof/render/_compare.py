"""A comparison in one of its formats: by words in the terminal or Markdown, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TextIO

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render import _compare_markdown, _compare_terminal


def _as_json(comparison: Comparison, out: TextIO) -> None:
    json.dump(dataclasses.asdict(comparison), out, indent=1)
    out.write("\n")


FORMATS: dict[str, Callable[[Comparison, TextIO], None]] = {
    "json": _as_json,
    "markdown": _compare_markdown.render,
    "terminal": _compare_terminal.render,
}
"""What writes a comparison, by the name of the format."""
