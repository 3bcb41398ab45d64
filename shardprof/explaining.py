"""What bounds a training, on rank 0's stderr: said by a process of low priority beside it, once all ranks have written.

Its stderr is the job's: a pipe that the job writes into ends when this process does, so where rank 0 is gone it waits
for others only shortly.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import shardprof
from shardprof.errors import ShardprofError
from shardprof.recording import identity, own_process
from shardprof.words import printable

if TYPE_CHECKING:
    from shardprof.trace.quality import Quality

ALONE_WITHIN_S = 10.0
"""For so long it waits once rank 0 is gone: other ranks end at about the same time."""
EVERY_S = 2.0
READ_WITHIN_S = 600
_LOWEST_PRIORITY = 19
_GRAVE = (
    "unreadable_trace", "truncated_trace", "lost_events", "rank_unknown", "missing_ranks", "different_jobs",
    "nothing_captured", "dropped_records",
)  # fmt: skip
"""The doubts, of all in a report, after which a verdict may be another one."""


def start(module: str, *arguments: str) -> None:
    """Call `main` of `module` in such a process, with `arguments` and what names this one: `explain` is for it. OSError
    where it cannot be started."""
    own_process.start(module, *arguments, identity.of_process(os.getpid()), heard=True)


def explain(path: Path, starter: str, lacking: Callable[[], str | None], *, within_s: float, ranks: int = 1) -> None:
    """Say what bounds the run or the traces in `path`, once nothing is `lacking`, which is looked for every 2 s.

    After `within_s` seconds what is there is explained all the same, as long as `starter` lives; after that nothing is.
    What is missing of that many `ranks`, or doubtful, is said.
    """
    signal.alarm(round(within_s) + READ_WITHIN_S)  # whatever it hangs in, it ends
    os.nice(_LOWEST_PRIORITY)
    try:
        lacks = _await(starter, lacking, within_s)
        run = shardprof.load(path)
        told = [*run.headline.splitlines(), *_doubts(run.quality, len(run.ranks), ranks)]
    except (OSError, ShardprofError) as error:
        say(f"{path} is not explained: {error}")
        return
    say(f"{path}{f' ({lacks})' if lacks else ''}", *told, f"more: shardprof report {shlex.quote(str(path))}")


def _doubts(quality: Iterable[Quality], read: int, ranks: int) -> list[str]:
    """A line where the verdict is not of all, or not of all there was."""
    grave = [doubt.message for doubt in quality if doubt.code in _GRAVE]
    if read < ranks:
        grave.insert(0, f"only {read} of {ranks} ranks could be read")
    return [f"doubtful: {'; '.join(grave)}"] if grave else []


def say(first: str, *further: str) -> None:
    """Lines on stderr, which may hold a stranger's words."""
    sys.stderr.write("".join([f"shardprof: {printable(first)}\n", *(f"  {printable(line)}\n" for line in further)]))
    sys.stderr.flush()


def _await(starter: str, lacking: Callable[[], str | None], within_s: float) -> str | None:
    """What is lacking in the end. ShardprofError where the starter is gone before all is there."""
    now = time.monotonic()
    end, alone_until = now + within_s, now + ALONE_WITHIN_S
    while (lacks := lacking()) is not None and time.monotonic() < end:
        if identity.is_alive(starter):
            alone_until = time.monotonic() + ALONE_WITHIN_S
        elif time.monotonic() > alone_until:
            raise ShardprofError(f"rank 0 has ended, and {lacks}", "shardprof report explains what is there")
        time.sleep(EVERY_S)
    return lacks
