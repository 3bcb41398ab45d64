"""Capture the next steps of a job that is being recorded, on all its ranks the same.

RUN is its run folder (without it the newest under shardprof-runs/). The job must have been started with `shardprof
record`, in either mode; this command waits until the steps are captured, and may be run on another machine.

example:
  shardprof trigger
  shardprof trigger shardprof-runs/20260101-120000-train --steps 3
"""

from __future__ import annotations

import argparse
import time

from shardprof.cli import _live
from shardprof.cli._say import say
from shardprof.errors import ShardprofError
from shardprof.recording import request as asking
from shardprof.recording.request import Asked
from shardprof.words import numbers, plural

POLL_S = 0.2
MOST_STEPS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which job and how many steps."""
    _live.add_run(parser)
    parser.add_argument("--steps", metavar="N", default="5", help="how many steps (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Ask for the steps and wait for them; a job that is over or cannot capture them raises ShardprofError."""
    if not (args.steps.isdecimal() and 0 < int(args.steps) <= MOST_STEPS):
        raise ShardprofError(f"--steps {args.steps} is no number of steps to capture", "try `--steps 5`")
    folder = _live.run_folder(args)
    asked = asking.ask(folder, int(args.steps))
    say(f"{asked} of {plural(len(asked.ranks), 'rank')} will be captured in about {asked.in_s:.0f} s")
    try:
        _wait(asked)
    except KeyboardInterrupt:
        say("no longer waiting; the steps are captured all the same")
        return 130
    say(f"captured: shardprof report {folder.root}")
    return 0


def _wait(asked: Asked) -> None:
    while True:
        missing, is_over = asked.missing()
        if not missing:
            return
        if is_over:
            raise ShardprofError(
                f"{asked} were not captured on {plural(len(missing), 'rank')} ({numbers(missing)})",
                "rank.json of these says why, where the job itself did not end",
            )
        time.sleep(POLL_S)
