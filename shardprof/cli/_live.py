"""What the commands share that look at a job while it runs: which run they mean, where its steps go."""

from __future__ import annotations

import argparse
from pathlib import Path

from shardprof import sinks
from shardprof.errors import ShardprofError
from shardprof.recording import node
from shardprof.trace.run import newest_run
from shardprof.trace.schema import RUN_FILE, RunFolder


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run folder."""
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="the run folder (default: the newest)")


def add_sinks(parser: argparse.ArgumentParser) -> None:
    """Declare where steps go."""
    parser.add_argument(
        "--sink",
        action="append",
        default=[],
        metavar="NAME[=TARGET]",
        help=f"send a line a step and rank there ({', '.join(sinks.names())}): TensorBoard's folder (default: "
        "RUN/tensorboard) or W&B's project; may be given several times",
    )


def is_running(folder: RunFolder) -> bool:
    """Does a recorder of the run still run?"""
    return any(node.is_alive(host) for host in folder.host_folders())


def run_folder(args: argparse.Namespace) -> RunFolder:
    """The run that is meant. Raises ShardprofError where it is none."""
    root: Path = args.run or newest_run()
    if not (root / RUN_FILE).exists():
        raise ShardprofError(f"{root} is no run folder", "name the folder that `shardprof record` said it records into")
    return RunFolder(root)
