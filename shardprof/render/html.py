"""The report as one HTML page that needs no network: for colleagues, for later, for print."""

from __future__ import annotations

from typing import TextIO

from shardprof.analysis.result import Result
from shardprof.render._focus import require_whole
from shardprof.render._html.page import plotly, write
from shardprof.render._html.report import page_of


def check(focus: str = "report") -> None:
    """Raises ShardprofError where Plotly was not built in, or a part is asked for."""
    require_whole(focus)
    plotly()


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write the page, which has everything. Raises ShardprofError as `check` does."""
    require_whole(focus)
    write(page_of(result), out)
