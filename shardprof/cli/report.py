"""Say where the time of each step went, on every rank.

PATH is a run folder that `shardprof record` made, a folder of torch.profiler traces (torchtitan, dynolog, ...) or one
trace file; several paths are the nodes of one run. Without PATH it is the newest run under shardprof-runs/.

example:
  shardprof report
  shardprof report shardprof-runs/20260101-120000-train --format json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shardprof import render
from shardprof.analysis.report import analyse
from shardprof.trace.run import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and how to show it."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a run folder, a folder of traces, a trace")
    parser.add_argument(
        "--format", choices=render.formats(), default="terminal", help="how to show it (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Report; a path that cannot be read raises ShardprofError."""
    render.output(args.format).render(analyse(load(args.paths)), sys.stdout)
    return 0
