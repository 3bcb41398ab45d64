"""Say what the difference between two runs consists of, and whether they can be compared.

A and B are run folders, folders of traces or trace files, as for `shardprof report`, or reports that were saved with
`--format json` (kernels and sizes of calls are then not told). Several runs of the same thing make a group, whose
interval also holds what differs from run to run: name A's runs, then --with and B's.

What is said goes from A to B. The step is the median over the captured steps of all ranks, with a 95 % interval;
the waterfall is of the mean step and sums to it, to the nanosecond. docs/compare.md has every figure.

example:
  shardprof compare shardprof-runs/fsdp2 shardprof-runs/zero2
  shardprof compare before-1 before-2 before-3 --with after-1 after-2 after-3
  shardprof compare fsdp2 zero2 --html comparison.html
  shardprof compare fsdp2 zero2 --format markdown >> "$GITHUB_STEP_SUMMARY"
"""

from __future__ import annotations

import argparse
from functools import partial

from shardprof.cli import _reading  # isort: skip  # before anything that imports NumPy
from shardprof.analysis.comparing.compare import compare
from shardprof.analysis.comparing.measured import measured
from shardprof.cli import _output
from shardprof.errors import ShardprofError
from shardprof.render._compare import FOLDER_FORMATS, FORMATS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to compare and how to show it."""
    _reading.add_arguments(parser)
    parser.add_argument("--with", nargs="+", dest="others", metavar="PATH", help="the runs of B; those before are A's")
    _output.add_arguments(parser, FORMATS.keys() | FOLDER_FORMATS.keys())


def run(args: argparse.Namespace) -> int:
    """Compare; a path that cannot be read raises ShardprofError."""
    before, after = _groups(args.paths, args.others)
    _output.chosen(args)
    render_folder = FOLDER_FORMATS.get(args.format)
    with _reading.interruptible():
        reading = _reading.reading(args)
        a, b = ([measured([path], reading, with_work=True) for path in side] for side in (before, after))
        comparison = compare(a, b)
        if render_folder is not None:
            _output.write_folder(args, partial(render_folder, comparison))
        else:
            _output.write_text(args, partial(FORMATS[args.format], comparison))
    return 0


def _groups(paths: list[str], others: list[str] | None) -> tuple[list[str], list[str]]:
    if others and paths:
        return paths, others
    if others is None and len(paths) == 2:
        return paths[:1], paths[1:]
    raise ShardprofError(
        "two runs are compared, or two groups", "shardprof compare A B, or shardprof compare A1 A2 --with B1 B2"
    )
