"""Hold a run to limits, for CI: exit code 1 and a line for each that is exceeded.

PATH is what `shardprof report` takes, or a report that was saved with `--format json`.

  --max exposed_comm=20%             an absolute limit: a share of the step
  --max step_time=120ms              or a time, a size (2GB, 512MiB), a count (findings=0)
  --max step_time=+5%@BASELINE       at most 5 % more than in BASELINE: a run, or a saved report
  --max memory=+100MB@BASELINE       or this much more; of what is a share, percent are points
  --min overlap=50%                  at least

What steps differ in (step_time and the times of classes) exceeds a relative limit only by more than chance: where the
whole 95 % interval of the change, over the captured steps of both runs, is beyond the limit. A limit that the interval
reaches is kept, and the line says so; capture more steps to know more. Absolute limits have no such mercy.

Exit code 0: all are kept; 1: one is exceeded; 2: one cannot be told, since its figure was not measured. On GitHub
(GITHUB_ACTIONS=true) what is not kept is annotated, too.

example:
  shardprof check --max exposed_comm=20% --max data_loading=5%
  shardprof check shardprof-runs/new --max step_time=+5%@main.json --junit limits.xml
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from shardprof.cli import _reading  # isort: skip  # before anything that imports NumPy
from shardprof.analysis.comparing.limits import FIGURES, Judgement, Limit, judge, parse_limit
from shardprof.analysis.comparing.measured import measured
from shardprof.errors import ShardprofError
from shardprof.render._limits import github_annotations, junit, lines

EXCEEDED, UNKNOWN = 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and which limits it has to keep."""
    _reading.add_arguments(parser)
    parser.add_argument("--max", action="append", default=[], metavar="LIMIT", help="what a figure may be at most")
    parser.add_argument("--min", action="append", default=[], metavar="LIMIT", help="what a figure has to be at least")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit test suite, a test a limit")
    names = "\n".join(f"  {name:<20}{figure.says}" for name, figure in FIGURES.items())
    parser.epilog = f"names:\n{names}"


def run(args: argparse.Namespace) -> int:
    """Check; ShardprofError for a limit that is none, and for a path that cannot be read."""
    limits = [parse_limit(text, at_most=True) for text in args.max]
    limits += [parse_limit(text, at_most=False) for text in args.min]
    if not limits:
        raise ShardprofError("there is no limit to check", "name one: --max exposed_comm=20%")
    with _reading.interruptible():
        judgements = _judged(limits, args)
    sys.stdout.writelines(f"{line}\n" for line in lines(judgements))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stdout.writelines(f"{line}\n" for line in github_annotations(judgements))
    if args.junit:
        args.junit.write_bytes(junit(judgements))
    states = {judgement.exceeded for judgement in judgements}
    return EXCEEDED if True in states else UNKNOWN if None in states else 0


def _judged(limits: list[Limit], args: argparse.Namespace) -> list[Judgement]:
    reading = _reading.reading(args)
    checked = measured(args.paths, reading)
    named = dict.fromkeys(limit.baseline for limit in limits if limit.baseline)
    baselines = {path: measured([path], reading) for path in named}
    return [judge(limit, checked, baselines.get(limit.baseline or "")) for limit in limits]
