"""What a report has to say of places in a timeline: instants that carry their text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shardprof.trace.timeline.track_names import Shelf
from shardprof.trace.timeline.writer import TimelineWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A `title` at a time, on the clock of a rank or of a host, and what else is to be read there."""

    title: str
    time_ns: int
    rank: int | None = None
    host: str | None = None
    text: Mapping[str, str] = field(default_factory=dict)


class RemarkTrack:
    """An instant for each remark, on a track of the process."""

    def __init__(self, writer: TimelineWriter, process: int, remarks: Iterable[Remark]) -> None:
        self._writer = writer
        self._process = process
        self._remarks = sorted(remarks, key=lambda remark: remark.time_ns)
        self._thread = writer.thread(process, "findings", Shelf.FINDINGS) if self._remarks else 0

    def write(self) -> None:
        """Write them."""
        for remark in self._remarks:
            self._writer.instant(self._process, self._thread, "finding", remark.title, remark.time_ns, remark.text)
