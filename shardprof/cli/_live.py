"""What the commands share that look at a job while it runs: which run they mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from shardprof.errors import ShardprofError
from shardprof.trace.run import newest_run
from shardprof.trace.schema import RUN_FILE, RunFolder


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run folder."""
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run folder (default: the newest)")


def run_folder(args: argparse.Namespace) -> RunFolder:
    """The run that is meant. Raises ShardprofError where it is none."""
    root: Path = args.run or newest_run()
    if not (root / RUN_FILE).exists():
        raise ShardprofError(f"{root} is no run folder", "name the folder that `shardprof record` said it records into")
    return RunFolder(root)
