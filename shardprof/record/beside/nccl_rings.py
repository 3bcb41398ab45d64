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
            except (OSError, ValueError) as error:
                self._failed.add(ring)
                self._note(f"{ring.name} is not read any more: {error}")

    def _rings(self) -> Iterator[Path]:
        for ring in sorted(self._folder.glob("nccl.*.ring")):
            if ring not in self._failed:
                yield ring


def _drain(file: Path) -> None:
    from shardprof.trace.nccl import ring  # here: a job without NCCL needs nothing of it

    with _mapped(file) as data:
        if data is None:
            return
        records, tail = ring.take(data, writer_is_dead=False)
        if len(records):
            _append(file, records.tobytes())
            ring.set_tail(data, tail)
        del records


def _close(file: Path) -> None:
    """Keep what is left of a process that has ended, which takes less room without the ring."""
    from shardprof.trace.nccl import ring

    with _mapped(file) as data:
        if data is None:
            return
        records, tail = ring.take(data, writer_is_dead=True)
        if len(records):
            _append(file, records.tobytes())
        ring.set_tail(data, tail)
        del records
        _beside(file, "state").write_bytes(gzip.compress(data[: ring.STATE_BYTES], _LEVEL))
    file.unlink()


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


def _append(file: Path, data: bytes) -> None:
    """Each time a gzip member of its own: who is killed in the middle loses that one."""
    with _beside(file, "records").open("ab") as kept:
        kept.write(gzip.compress(data, _LEVEL))


def _beside(file: Path, what: str) -> Path:
    return file.with_name(f"{file.name.removesuffix('.ring')}.{what}.gz")
