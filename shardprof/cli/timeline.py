"""Put all that a run holds into one file for Perfetto: every rank's steps, events, counters, findings on one clock.

PATH is a run folder that `shardprof record` made, a folder of torch.profiler traces or one trace file; several paths
are the nodes of one run. Without PATH it is the newest run under shardprof-runs/. The file is PATH/timeline.json.gz,
or the one that --out names. `shardprof open` makes it too, and shows it.

example:
  shardprof timeline
  shardprof timeline shardprof-runs/20260101-120000-train --out /tmp/train.json.gz
  shardprof timeline profile_traces/iteration_100 --ranks 0,7 --steps 100:102
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shardprof.cli import _reading, _timeline
from shardprof.errors import ShardprofError
from shardprof.trace.run import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read, what to show and where to write."""
    _timeline.add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: PATH/timeline.json.gz)")


def run(args: argparse.Namespace) -> int:
    """Write it; a path that cannot be read or written to raises ShardprofError."""
    with _reading.interruptible():
        recorded = load(args.paths, _reading.reading(args))
        out = args.out or _timeline.beside(recorded)
        if out is None:
            message = f"beside {recorded.paths[0]} nothing may be written, or lies what shardprof has not made"
            raise ShardprofError(message, "say where the timeline goes: --out FILE")
        _timeline.make(recorded, out, args)
    sys.stdout.write("to see it: shardprof open, or https://ui.perfetto.dev\n")
    return 0
