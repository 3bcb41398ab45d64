"""Takes what NCCL's plugin records out of the ranks' rings, so that they never fill, and keeps it."""

from __future__ import annotations

import contextlib
import gzip
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

from shardprof.record.beside.thread import BesideThread

_EVERY_S = 0.5
_LEVEL = 1  # these bytes repeat themselves: more effort gains little


class NcclRings(BesideThread):
    """Looks into `folder`, where the plugin of every process of this node puts its file."""

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        super().__init__("nccl", stop_s=60.0)
        self._folder = folder
        self._note = note
        self._failed: set[Path] = set()

    def stop(self) -> None:
        """The job is over: what is left in the rings is kept, and the rings go."""
        super().stop()
        self._each(_close)

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            self._each(_drain)

    def _each(self, do: Callable[[Path], None]) -> None:
        for ring in self._rings():
            try:
                do(ring)
            except (OSError, ValueError, BufferError) as error:
                self._failed.add(ring)
                self._note(f"{ring.name} is not read any more: {error}")

    def _rings(self) -> Iterator[Path]:
        for ring in sorted(self._folder.glob("nccl.*.ring")):
            if ring not in self._failed:
                yield ring


def _drain(file: Path) -> None:
    """Keep what a process that runs has recorded since the last time."""
    with _mapped(file) as data:
        if data is not None:
            _keep_records(file, data, ended=False)


def _close(file: Path) -> None:
    """Keep all of a process that has ended, which takes less room without the ring."""
    from shardprof.trace.nccl.ring import STATE_BYTES

    with _mapped(file) as data:
        if data is None:
            return
        _keep_records(file, data, ended=True)
        _beside(file, "state").write_bytes(gzip.compress(data[:STATE_BYTES], _LEVEL))
    file.unlink()


def _keep_records(file: Path, data: memoryview, *, ended: bool) -> None:
    """Each time a gzip member of its own: who is killed in the middle loses that one."""
    from shardprof.trace.nccl import ring  # here: a job without NCCL needs nothing of it

    records, tail = ring.take(data, writer_is_dead=ended)
    if len(records):
        with _beside(file, "records").open("ab") as kept:
            kept.write(gzip.compress(records.tobytes(), _LEVEL))
    ring.set_tail(data, tail)


@contextlib.contextmanager
def _mapped(file: Path) -> Iterator[memoryview | None]:
    """The bytes of a ring's file; None while the plugin is still making it."""
    from shardprof.trace.nccl import ring

    with file.open("r+b") as stream:
        if file.stat().st_size != ring.RING_BYTES:
            yield None
            return
        with mmap.mmap(stream.fileno(), ring.RING_BYTES) as mapped, memoryview(mapped) as data:
            yield data if ring.is_ready(data) else None


def _beside(file: Path, what: str) -> Path:
    return file.with_name(f"{file.name.removesuffix('.ring')}.{what}.gz")
