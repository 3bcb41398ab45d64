"""Explain NCCL's debug log: versions, ranks, topology, network, algorithms, settings, and what warnings mean.

FILE is what a job printed with NCCL_DEBUG=INFO (or WARN), of one rank or of all, through any launcher, packed with gzip
or not; several files are taken together, "-" is the standard input, and a folder (a recorded run) stands for its *.log.
Without NCCL_DEBUG_SUBSYS=INIT,ENV,COLL,TUNING there are no calls in it. docs/nccl-log.md says what NCCL's lines mean.

example:
  shardprof nccl-log train.log
  NCCL_DEBUG=INFO torchrun train.py 2>&1 | shardprof nccl-log -
  shardprof nccl-log nccl.*.log --format json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shardprof.analysis.nccl_log import account
from shardprof.errors import ShardprofError
from shardprof.render._nccl_log import FORMATS
from shardprof.trace.importers.nccl_log import read_nccl_logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and how to show it."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help='a log, or a folder of them; "-" is the standard input'
    )
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="terminal", help="how to show it (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Explain; ShardprofError where nothing in the files is of NCCL."""
    files = [file for name in args.files for file in _logs(name)]
    FORMATS[args.format](account(read_nccl_logs(files)), sys.stdout)
    return 0


def _logs(name: str) -> list[str]:
    """A file, or what is called a log below a folder, such as a recorded run."""
    if not Path(name).is_dir():
        return [name]
    found = sorted(str(file) for pattern in ("*.log", "*.log.gz") for file in Path(name).rglob(pattern))
    if not found:
        raise ShardprofError(f"there are no logs in {name}", "name the files that hold what NCCL printed")
    return found
