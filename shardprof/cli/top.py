"""Watch a job that is being recorded: its ranks, where they are, how long steps take, who is behind.

RUN is its run folder (without it the newest under shardprof-runs/). It may be watched from any machine that sees the
folder; the job does not notice. Ctrl-C ends the watching. In a pipe it says once how things are.

example:
  shardprof top
  shardprof top shardprof-runs/20260101-120000-train
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.live import Live

from shardprof.analysis.cache import report_of
from shardprof.analysis.live import captured_shares, node_now, ranks_now
from shardprof.cli import _live
from shardprof.errors import ShardprofError
from shardprof.render._top import Screen, draw
from shardprof.trace.live import LiveRank, live_hosts, live_ranks
from shardprof.trace.run import load
from shardprof.trace.schema import RunFolder, RunRecord, Window, read_whole
from shardprof.words import numbers, plural

EVERY_S = 0.5
LINES_BESIDE_RANKS = 10
PIPE_WIDTH = 120


class LastCapture:
    """What the newest window showed. It is read in the background, and again when there is another."""

    def __init__(self, folder: RunFolder) -> None:
        self.shares: dict[str, float] = {}
        self.which = ""
        self._folder = folder
        self._windows = 0
        self._pool = ThreadPoolExecutor(1)

    def look(self, ranks: list[LiveRank], *, wait: bool) -> None:
        """Has every rank a new one?"""
        windows = min((len(rank.record.windows) for rank in ranks), default=0)
        if windows > self._windows:
            self._windows = windows
            reading = self._pool.submit(self._read, ranks[0].record.windows[windows - 1])
            if wait:
                reading.result()

    def close(self) -> None:
        """Nobody looks any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, window: Window) -> None:
        with contextlib.suppress(ShardprofError, OSError):  # still being written: the next window tells
            result = report_of(load([self._folder.root]))
            self.shares = captured_shares(result, window.first_step, window.last_step)
            self.which = f"steps {numbers(range(window.first_step, window.last_step + 1))}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which job."""
    _live.add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Show the job until it is over or Ctrl-C comes."""
    folder = _live.run_folder(args)
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    capture = LastCapture(folder)
    try:
        if console.is_terminal:
            _watch(folder, capture, console)
        screen = _screen(folder, capture, wait=True)
        console.print(draw(screen, most_ranks=len(screen.ranks) if not console.is_terminal else _room(console)))
    finally:
        capture.close()
    return 0


def _watch(folder: RunFolder, capture: LastCapture, console: Console) -> None:
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=True) as live:
        while _live.is_running(folder):
            live.update(draw(_screen(folder, capture, wait=False), _room(console)), refresh=True)
            time.sleep(EVERY_S)


def _room(console: Console) -> int:
    return max(1, console.height - LINES_BESIDE_RANKS)


def _screen(folder: RunFolder, capture: LastCapture, *, wait: bool) -> Screen:
    record = read_whole(RunRecord, folder.run_file)
    ranks, hosts = live_ranks(folder), live_hosts(folder)
    capture.look(ranks, wait=wait)
    now_ns = time.time_ns()
    return Screen(
        title=_title(folder, record, ranks),
        state=_state(folder, record, ranks, now_ns),
        ranks=ranks_now(ranks, hosts, now_ns),
        nodes={host.record.name: node_now(host) for host in hosts},
        captured=capture.shares,
        captured_steps=capture.which,
    )


def _title(folder: RunFolder, record: RunRecord, ranks: list[LiveRank]) -> str:
    framework = next((rank.record.framework for rank in ranks if rank.record.framework), "")
    strategy = next(
        (str(rank.record.settings["strategy"]) for rank in ranks if rank.record.settings.get("strategy")), ""
    )
    return " · ".join(filter(None, [folder.name, " ".join(filter(None, [framework, strategy])), record.launcher]))


def _state(folder: RunFolder, record: RunRecord, ranks: list[LiveRank], now_ns: int) -> str:
    end_ns = record.outcome.ended_ns if record.outcome else now_ns
    minutes, seconds = divmod((end_ns - record.started_ns) // 1_000_000_000, 60)
    state = (
        "running"
        if _live.is_running(folder)
        else f"over, exit code {record.outcome.exit_code}"
        if record.outcome
        else "gone"
    )
    windows = "light: nothing is captured unless asked for" if record.plan.repeat == 0 else ""
    return " · ".join(filter(None, [f"{state}, {minutes}:{seconds:02d}", plural(len(ranks), "rank"), windows]))
