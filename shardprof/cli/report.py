"""Say where the time of each step went, on every rank.

PATH is a run folder that `shardprof record` made, a folder of torch.profiler traces (torchtitan, dynolog, ...) or one
trace file, on disk or behind a URL; several paths are the nodes of one run. Without PATH it is the newest run under
shardprof-runs/. What was computed is kept in .shardprof-cache/ beside the traces, so that asking again takes no time;
that folder may be deleted, and SHARDPROF_CACHE=0 does without.

example:
  shardprof report
  shardprof report shardprof-runs/20260101-120000-train --format json
  shardprof report --stragglers
  shardprof report --html report.html
  shardprof report s3://bucket/profile_traces/iteration_100 --jobs 8 --memory 16G
"""

from __future__ import annotations

import argparse
from functools import partial

from shardprof.cli import _reading  # isort: skip  # before anything that imports NumPy
from shardprof import render
from shardprof.analysis.cache import report_of
from shardprof.cli import _output
from shardprof.trace.run import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and how to show it."""
    _reading.add_arguments(parser)
    _output.add_arguments(parser, render.formats())
    parser.add_argument(
        "--stragglers",
        dest="focus",
        action="store_const",
        const="stragglers",
        default="report",
        help="who kept the others waiting: a matrix of ranks and steps",
    )
    parser.add_argument(
        "--findings",
        dest="focus",
        action="store_const",
        const="findings",
        help="all that is to be changed, with what shows it, its price, and what would disprove it",
    )


def run(args: argparse.Namespace) -> int:
    """Report; a path that cannot be read raises ShardprofError."""
    output = _output.chosen(args, args.focus)
    with _reading.interruptible():
        result = report_of(load(args.paths, _reading.reading(args)))
        if isinstance(output, render.FolderOutput):
            _output.write_folder(args, partial(output.render_folder, result))
        else:
            _output.write_text(args, partial(output.render, result, focus=args.focus))
    return 0
