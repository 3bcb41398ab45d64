"""Takes what NCCL's plugin records out of the ranks' rings, so that they never fill, and keeps it in the run folder."""

from __future__ import annotations

import contextlib
import gzip
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

from shardprof.recording.beside.thread import BesideThread
from shardprof.recording.nccl_places import temporary_folders

_EVERY_S = 0.5
_LEVEL = 1  # these bytes repeat themselves: more effort gains little


class NcclRings(BesideThread):
    """Looks where the plugin of every process of this node may put its file; what it held is kept in `kept`."""

    def __init__(self, kept: Path, note: Callable[[str], None]) -> None:
        super().__init__("nccl", stop_s=60.0)
        self._kept = kept
        self._elsewhere = temporary_folders(kept)
        self._note = note
        self._rings: dict[Path, _Ring] = {}
        self._failed: set[Path] = set()

    def stop(self) -> None:
        """The job is over: what is left in the rings is kept, and the rings go."""
        super().stop()
        self._each(_Ring.close)
        for folder in self._elsewhere:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            self._each(_Ring.drain)

    def _each(self, do: Callable[[_Ring], None]) -> None:
        for file in self._files():
            try:
                if ring := self._open(file):
                    do(ring)
            except (OSError, ValueError, BufferError) as error:
                self._failed.add(file)
                self._note(f"{file.name} is not read any more: {error}")

    def _files(self) -> Iterator[Path]:
        there = [file for folder in (self._kept, *self._elsewhere) for file in sorted(folder.glob("nccl.*.ring"))]
        yield from (file for file in dict.fromkeys([*self._rings, *there]) if file not in self._failed)

    def _open(self, file: Path) -> _Ring | None:
        """The ring in a file; None while the plugin is still making it."""
        if file not in self._rings and (mapped := _mapped(file)):
            self._kept.mkdir(parents=True, exist_ok=True)
            self._rings[file] = _Ring(mapped, file, self._kept)
            if file.parent in self._elsewhere:
                file.unlink()  # mapped it stays as long as it is needed, and nobody has to clear it away
        return self._rings.get(file)


class _Ring:
    """One process's, mapped."""

    def __init__(self, mapped: mmap.mmap, file: Path, kept: Path) -> None:
        self._data = memoryview(mapped)
        self._file = file
        self._kept = kept / file.name.removesuffix(".ring")
        self._is_closed = False

    def drain(self) -> None:
        """Keep what the process has recorded since the last time."""
        self._keep_records(ended=False)

    def close(self) -> None:
        """The process has ended: keep all of it, which takes less room without the ring."""
        from shardprof.trace.nccl.ring import STATE_BYTES

        if self._is_closed:
            return
        self._is_closed = True
        self._keep_records(ended=True)
        self._beside("state").write_bytes(gzip.compress(self._data[:STATE_BYTES], _LEVEL))
        self._file.unlink(missing_ok=True)

    def _keep_records(self, *, ended: bool) -> None:
        """Each time a gzip member of its own: who is killed in the middle loses that one."""
        from shardprof.trace.nccl import ring  # here: a job without NCCL needs nothing of it

        records, tail = ring.take(self._data, writer_is_dead=ended)
        if len(records):
            with self._beside("records").open("ab") as kept:
                kept.write(gzip.compress(records.tobytes(), _LEVEL))
        ring.set_tail(self._data, tail)

    def _beside(self, what: str) -> Path:
        return self._kept.with_name(f"{self._kept.name}.{what}.gz")


def _mapped(file: Path) -> mmap.mmap | None:
    from shardprof.trace.nccl import ring

    with file.open("r+b") as stream:
        if file.stat().st_size != ring.RING_BYTES:
            return None
        mapped = mmap.mmap(stream.fileno(), ring.RING_BYTES)
    if ring.is_ready(memoryview(mapped)):
        return mapped
    return None
