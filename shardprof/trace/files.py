"""Where traces lie: on disk or behind a URL that fsspec knows (s3, gs, http, ...), listed and opened alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from shardprof.errors import ShardprofError

TRACE_SUFFIXES = tuple(f".json{packed}" for packed in ("", ".gz", ".zst"))
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file or folder behind a URL."""

    url: str

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return self.pure_path.name

    @property
    def pure_path(self) -> PurePath:
        """The path in the URL, without a query."""
        return PurePosixPath(self.url.partition("://")[2].partition("?")[0].partition("#")[0])

    def __str__(self) -> str:
        return self.url


Place = Path | RemoteFile


def place(text: str | os.PathLike[str]) -> Place:
    """The file or folder that a user names: a URL or a path."""
    return RemoteFile(text) if isinstance(text, str) and "://" in text else Path(text)


def pure_path(file: Place) -> PurePath:
    """The path by which a file names itself."""
    return file.pure_path if isinstance(file, RemoteFile) else file


def is_trace_name(name: str) -> bool:
    """Whether a file of this name may be a trace."""
    return name.endswith(TRACE_SUFFIXES)


def remote_files(where: RemoteFile) -> list[RemoteFile]:
    """The files behind a URL: itself, or what lies below it where it is a folder. Raises ShardprofError."""
    with _told_as_shardprof_error(where):
        filesystem, path = _fsspec().core.url_to_fs(where.url)
        if not filesystem.isdir(path) or filesystem.isfile(path):
            return [where]
        return [RemoteFile(filesystem.unstrip_protocol(found)) for found in sorted(filesystem.find(path))]


@contextmanager
def opened(file: Place) -> Iterator[int]:
    """A descriptor that the file's bytes can be read from, once and in order. Raises OSError."""
    if isinstance(file, Path):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    pump = _Pump(file)
    try:
        yield pump.descriptor
    finally:
        pump.stop()
    pump.raise_error()


class _Pump:
    """Fetches a remote file into a pipe, on a thread of its own: the engine reads from descriptors only."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._error: Exception | None = None
        self.descriptor, self._entry = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the fetching, whether or not all was read."""
        os.close(self.descriptor)
        self._thread.join()

    def raise_error(self) -> None:
        """A file that was fetched in part only must not look like one that was cut off."""
        if self._error is not None:
            raise OSError(str(self._error)) from self._error

    def _run(self) -> None:
        try:
            with _fsspec().open(self._file.url, "rb") as source, suppress(BrokenPipeError):
                while chunk := source.read(_CHUNK_BYTES):
                    _write_all(self._entry, chunk)
        except Exception as error:  # each file system has its own
            self._error = error
        finally:
            os.close(self._entry)


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _fsspec() -> Any:
    import fsspec  # only who reads from far away waits for it

    return fsspec


@contextmanager
def _told_as_shardprof_error(where: RemoteFile) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        hint = "look at the address and at what it needs to be reached"
        raise ShardprofError(f"{where} cannot be read: {error}", hint) from error
