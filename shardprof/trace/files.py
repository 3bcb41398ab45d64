"""Where traces lie: on disk or behind a URL that fsspec knows (s3, gs, http, ...), listed and opened alike."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from shardprof.errors import ShardprofError
from shardprof.trace.schema import FLIGHT_FILE, HOST_FILE, RANK_FILE, RUN_FILE, STACKS_FILE, TIMELINE_FILE

CACHE_FOLDER = ".shardprof-cache"
OWN_FILES = frozenset({RUN_FILE, RANK_FILE, HOST_FILE, FLIGHT_FILE, STACKS_FILE, TIMELINE_FILE})
_PACKINGS = ("", ".gz", ".zst")
_TRACE_SUFFIXES = tuple(f".json{packing}" for packing in _PACKINGS)
_UNFINISHED = ".tmp"
_CHUNK_BYTES = 1 << 20
_WEB = ("http://", "https://")
_SECRET = re.compile(r"(?<=://)[^/?#@\s]+(?=@)|(?<=[\w/]\?)[^\s'\"]+")
"""In an address: who logs in and the query, in which signatures stand."""


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
        """The path in the URL as its server knows it: of the web's without a query, and with spaces for "%20"."""
        if self.url.startswith(_WEB):
            return PurePosixPath(unquote(urlsplit(self.url).path))
        return PurePosixPath(self.url.partition("://")[2])

    def __str__(self) -> str:
        """The address to show to others."""
        return _SECRET.sub("...", self.url) if self.url.startswith(_WEB) else self.url


Place = Path | RemoteFile
AnyPlace = TypeVar("AnyPlace", Path, RemoteFile)


def place(text: str | os.PathLike[str]) -> Place:
    """The file or folder that a user names: a URL or a path."""
    return RemoteFile(text) if isinstance(text, str) and "://" in text else Path(text)


def pure_path(file: Place) -> PurePath:
    """The path by which a file names itself."""
    return file.pure_path if isinstance(file, RemoteFile) else file


def told_name(file: Place) -> str:
    """How a file is told of: where all ranks' files have one name, with the folder of its rank."""
    folder = pure_path(file).parent.name
    return f"{folder}/{file.name}" if folder.isdecimal() else file.name


def is_trace_name(name: str) -> bool:
    """Whether a file of this name may be a trace."""
    return name.endswith(_TRACE_SUFFIXES)


def traces_among(files: Sequence[AnyPlace]) -> list[AnyPlace]:
    """Those that may be traces: by their names, without what shardprof itself writes beside traces."""
    names = {str(file) for file in files}
    return [file for file in files if _is_trace(file, names) and not _is_own_file(pure_path(file))]


def _is_trace(file: Place, names: Collection[str]) -> bool:
    """Kineto writes to a .tmp and renames it, so a job that was killed leaves that."""
    whole = str(file).removesuffix(_UNFINISHED)
    finished = whole == str(file) or not any(f"{whole}{packing}" in names for packing in _PACKINGS)
    return is_trace_name(whole) and finished


def _is_own_file(file: PurePath) -> bool:
    return file.name in OWN_FILES or CACHE_FOLDER in file.parts


def remote_files(where: RemoteFile) -> list[RemoteFile]:
    """The files behind a URL: itself, or what lies below it where it is a folder; on the web, where all is a file, a
    folder is what ends with a slash. Raises ShardprofError."""
    try:
        filesystem, path = _filesystem(where)
        is_file = filesystem.isfile(path) and not where.url.endswith("/")
        if is_file or not filesystem.isdir(path):
            return [where]
        return [RemoteFile(filesystem.unstrip_protocol(found)) for found in sorted(filesystem.find(path))]
    except Exception as error:  # each file system has its own
        hint = "look at the address and at what it needs to be reached"
        raise ShardprofError(f"{where} cannot be read: {_reason(error)}", hint) from error


@contextmanager
def opened(file: Place) -> Iterator[int]:
    """A descriptor that the file's bytes can be read from, once and in order. Raises OSError.

    A remote file that could not be fetched raises it at the end, whatever the reader made of what there was: it must
    not look like one that was cut off.
    """
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


class _Pump:
    """Fetches a remote file into a pipe, on a thread of its own: the engine reads from descriptors only."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._error: Exception | None = None
        self.descriptor, self._entry = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the fetching, whether or not all was read. Raises OSError where it failed."""
        os.close(self.descriptor)
        self._thread.join()
        if self._error is not None:
            raise OSError(_reason(self._error)) from self._error

    def _run(self) -> None:
        try:
            filesystem, path = _filesystem(self._file)
            with filesystem.open(path, "rb") as source:
                while (chunk := source.read(_CHUNK_BYTES)) and _passed_on(chunk, self._entry):
                    pass
        except Exception as error:  # each file system has its own
            self._error = error
        finally:
            os.close(self._entry)


def _passed_on(chunk: bytes, descriptor: int) -> bool:
    """Writes it all, unless nobody reads any more."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        return False
    return True


def _filesystem(where: RemoteFile) -> tuple[Any, str]:
    """The file system that a URL is of, and the path in it."""
    import fsspec  # only who reads from far away waits for it

    options: dict[str, Any] = {}
    if where.url.startswith(_WEB):
        import aiohttp

        # A file comes in one request, since not every server gives parts, and takes as long as it takes.
        options = {"block_size": 0, "client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_connect=30, sock_read=120)}}
    filesystem, path = fsspec.core.url_to_fs(where.url, **options)
    return filesystem, path


def _reason(error: Exception) -> str:
    """An error in one line that may be shown to others."""
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed (pip install {error.name})"
    lines = str(error).splitlines() or [type(error).__name__]
    return _SECRET.sub("...", lines[0])


def may_write(folder: Path) -> bool:
    """Whether one may write there: root could anywhere, and data that is meant to stay as it is should."""
    existing = folder if folder.exists() else folder.parent
    return bool(existing.stat().st_mode & 0o222) and os.access(existing, os.W_OK)
