"""Steps as TensorBoard's scalars: a run a rank, in the order and at the times at which the steps ended.

A rank has one file of events, with TensorBoard's own protocol buffers and framing; written again, it is replaced, and
whoever still wrote the old one stops.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from shardprof.sinks._following import StepRow
from shardprof.trace.schema import RunFolder

FOLDER = "tensorboard"
_FILE = "events.out.tfevents.shardprof"
_VERSION = "brain.Event:2"


def open_sink(run: RunFolder, target: str | None) -> TensorBoard:
    """Into the run's folder, or into one of the run's name inside `target`."""
    if target:
        return TensorBoard(Path(target) / run.name, logdir=Path(target))
    return TensorBoard(run.root / FOLDER, logdir=run.root / FOLDER)


class TensorBoard:
    """Writes below `folder`, which is in `logdir`. OSError where that fails."""

    def __init__(self, folder: Path, *, logdir: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._left: dict[int, tuple[int, int]] = {}
        self.place = f"tensorboard --logdir {shlex.quote(str(logdir))}"

    def put(self, rank: int, rows: Sequence[StepRow]) -> None:
        """Append the rows to the rank's file, which is closed in between: ranks may be thousands."""
        path = self._folder / f"rank-{rank}" / _FILE
        if rank not in self._left:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)  # a reader of the old one is not led astray
        with path.open("ab") as file:
            if rank in self._left and self._left[rank] != _state(file):
                raise OSError(f"{path} is not as it was left: another shardprof writes it now")
            events = RecordWriter(file)
            if file.tell() == 0:
                events.write(Event(wall_time=rows[0].end_ns / 1e9, file_version=_VERSION).SerializeToString())
            for event in _events(rows):
                events.write(event.SerializeToString())
            file.flush()
            self._left[rank] = _state(file)

    def close(self) -> None:
        """Nothing is held back."""


def _state(file: BinaryIO) -> tuple[int, int]:
    """Which file it is, and how long."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size


def _events(rows: Sequence[StepRow]) -> Iterator[Event]:
    for row in rows:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.values.items()]
        yield Event(wall_time=row.end_ns / 1e9, step=row.step, summary=Summary(value=values))
