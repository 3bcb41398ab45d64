"""A comparison in one of its formats: by words in the terminal or Markdown, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from shardprof.analysis.comparing.comparison import Comparison
from shardprof.render import _compare_markdown, _compare_terminal, csv, parquet
from shardprof.render._flat import comparison_tables


def _as_json(comparison: Comparison, out: TextIO) -> None:
    json.dump(dataclasses.asdict(comparison), out, indent=1)
    out.write("\n")


def _as_html(comparison: Comparison, out: TextIO) -> None:
    from shardprof.render._html import compare, page  # with Jinja, which other formats do without

    page.write(compare.page_of(comparison), out)


FORMATS: dict[str, Callable[[Comparison, TextIO], None]] = {
    "html": _as_html,
    "json": _as_json,
    "markdown": _compare_markdown.render,
    "terminal": _compare_terminal.render,
}
"""What writes a comparison, by the name of the format."""

FOLDER_FORMATS: dict[str, Callable[[Comparison, Path], None]] = {
    "csv": lambda comparison, folder: csv.write_tables(comparison_tables(comparison), folder),
    "parquet": lambda comparison, folder: parquet.write_tables(comparison_tables(comparison), folder),
}
"""What writes it as a file a table into a folder."""
