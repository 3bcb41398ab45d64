"""The timeline: all that a run holds as one Chrome trace, for Perfetto, every rank on one clock.

A rank is a process: what its steps went to comes first, then its streams and threads, its counters. A node has one for
what belongs to no rank. However long the traces are, only the columns of one trace are in memory, and never its
events: those wait, sorted, in a nameless file beside the timeline, about as large as the packed traces.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from shardprof.errors import ShardprofError
from shardprof.trace.across.joined import Joined, join
from shardprof.trace.quality import Quality, counted
from shardprof.trace.run import Run
from shardprof.trace.schema import TIMELINE_MARK
from shardprof.trace.timeline.choice import Choice, check, choose, left_out
from shardprof.trace.timeline.contents import Contents
from shardprof.trace.timeline.overview import RankOverview, overviews
from shardprof.trace.timeline.remarks import Remark
from shardprof.trace.timeline.sorted_rows import RowStore
from shardprof.trace.whole import appearing

_LEVEL = 2
_BUFFER_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16
_MOST_FIRST_RANKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a timeline is to show: a choice of the captured events (None: what a viewer can hold), the remarks of a
    report, the ranks that matter most first. `fingerprint` stays in the file and tells later what it was made from."""

    choice: Choice | None = None
    remarks: tuple[Remark, ...] = ()
    first_ranks: tuple[int, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What was written: how many events of which ranks, what was left out, what is missing."""

    ranks: tuple[int, ...]
    events: int
    left_out: tuple[str, ...]
    quality: tuple[Quality, ...]


class Made(msgspec.Struct, frozen=True):
    """What a timeline's file says of itself: what it was made from, what is not in it, where to look first (in time
    that is relative to its begin, at which ranks)."""

    fingerprint: str
    left_out: tuple[str, ...]
    shown_ns: tuple[int, int] | None
    first_ranks: tuple[int, ...]


def write_timeline(run: Run, out: Path, asked: Asked = Asked()) -> Timeline:
    """Write the timeline of `run` to `out`, which appears whole or not at all.

    Raises ShardprofError where nothing can be read, or not be written to `out`.
    """
    doubts = list(run.quality)
    with _packed(out) as file, RowStore(out.parent) as store:
        ranks = sorted(overviews(run, store, doubts), key=lambda overview: overview.rank)
        choice = asked.choice or choose(ranks, asked.first_ranks)
        check(choice, ranks)
        missing = tuple(left_out(choice, ranks))
        contents = Contents(run, ranks, _joined(ranks, run.reading.clock), choice, doubts)
        made = Made(asked.fingerprint, missing, contents.shown_ns(), asked.first_ranks[:_MOST_FIRST_RANKS])
        events = contents.write(file, store, asked.remarks, made)
    return Timeline(
        ranks=tuple(rank.rank for rank in ranks), events=events, left_out=missing, quality=tuple(counted(doubts))
    )


def made_from(file: Path) -> Made | None:
    """What a timeline says of itself; None where that is nothing that could be read."""
    try:
        with gzip.open(file, "rb") as text:
            head = text.read(_HEAD_BYTES)
        begin = head.index(f'"{TIMELINE_MARK}":'.encode()) + len(TIMELINE_MARK) + 3
        return msgspec.json.decode(head[begin : head.index(b',"traceEvents"', begin)], type=Made)
    except (OSError, EOFError, ValueError):
        return None


def _joined(ranks: Sequence[RankOverview], clock: str) -> Joined | None:
    calls = [window.calls for rank in ranks for window in rank.windows if window.calls]
    return join(calls, clock) if len(ranks) > 1 and calls else None


@contextmanager
def _packed(path: Path) -> Iterator[BinaryIO]:
    try:
        with (
            _place_of(path) as partial,
            gzip.GzipFile(partial, "wb", _LEVEL) as packed,
            io.BufferedWriter(packed, _BUFFER_BYTES) as file,
        ):
            yield cast(BinaryIO, file)
    except OSError as error:
        raise ShardprofError(f"{path} cannot be written: {error.strerror}", "say where it goes: --out FILE") from error


def _place_of(path: Path) -> AbstractContextManager[Path]:
    """Of a pipe or a device nothing takes the place: it is written to."""
    return nullcontext(path) if path.exists() and not path.is_file() else appearing(path.resolve())
