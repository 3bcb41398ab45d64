"""Put all that a run holds into one file that Perfetto shows: every rank's events, steps, counters, stacks.

PATH is a run folder that `shardprof record` made, a folder of torch.profiler traces or one trace file. Without PATH it
is the newest run under shardprof-runs/. The file is PATH/timeline.json.gz, or the one that --out names.

example:
  shardprof timeline
  shardprof timeline shardprof-runs/20260101-120000-train --out /tmp/train.json.gz
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shardprof.errors import ShardprofError
from shardprof.trace.run import Run, load
from shardprof.trace.schema import TIMELINE_FILE
from shardprof.trace.timeline import write_timeline
from shardprof.words import plural

_INTERRUPTED = 130  # what shells call a death by Ctrl-C


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and where to write."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="a run folder, a folder of traces or a trace file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: PATH/timeline.json.gz)")


def run(args: argparse.Namespace) -> int:
    """Write it; a path that cannot be read or written to raises ShardprofError."""
    recorded = load([args.path] if args.path else [])
    out = args.out or _beside(recorded)
    try:
        timeline = write_timeline(recorded, out)
    except KeyboardInterrupt:
        return _INTERRUPTED
    what = f"{plural(len(timeline.ranks), 'rank')}, {timeline.events:,} events"
    sys.stdout.write(f"timeline: {out} ({what})\nto see it, open it in https://ui.perfetto.dev\n")
    for doubt in timeline.quality:
        sys.stdout.write(f"doubtful: {doubt.message}{f' ({doubt.count:,})' if doubt.count else ''}\n")
    return 0


def _beside(run: Run) -> Path:
    (path,) = run.paths
    if not isinstance(path, Path):
        raise ShardprofError(f"{path} is not on this machine", "say where the timeline goes: --out timeline.json.gz")
    return (path if path.is_dir() else path.parent) / TIMELINE_FILE
