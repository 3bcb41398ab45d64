"""Send the steps of a run to TensorBoard or Weights & Biases.

RUN is its run folder (without it the newest under shardprof-runs/). A job that still runs is followed until it ends or
Ctrl-C comes. `shardprof record --sink` sends the same while it records.

example:
  shardprof export --sink tensorboard
  shardprof export shardprof-runs/20260101-120000-train --sink tensorboard=logs --sink wandb=my-project
"""

from __future__ import annotations

import argparse
import contextlib
import time

from shardprof import sinks
from shardprof.cli import _live
from shardprof.cli._say import say
from shardprof.errors import ShardprofError
from shardprof.sinks._feed import EVERY_S, Feed
from shardprof.trace.live import rank_records
from shardprof.words import plural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which run, and where to."""
    _live.add_run(parser)
    _live.add_sinks(parser)


def run(args: argparse.Namespace) -> int:
    """Send them; a sink that cannot be had or fails raises ShardprofError."""
    requests = sinks.requested(args.sink)
    if not requests:
        raise ShardprofError("there is nowhere to send steps to", "try `shardprof export --sink tensorboard`")
    folder = _live.run_folder(args)
    failures: list[str] = []
    feed = Feed(folder, requests, lambda: rank_records(folder), say, failures.append)
    sent = 0
    with contextlib.suppress(KeyboardInterrupt):
        while len(failures) < len(requests) and _live.is_running(folder):
            sent += feed.send()
            time.sleep(EVERY_S)
    sent += feed.send(final=True)
    feed.close()
    if failures:
        raise ShardprofError("; ".join(failures))
    say(f"sent {plural(sent, 'step')} of ranks")
    return 0
