"""Steps that somebody asks to be captured while the job runs: one line of fixed length in the run folder.

Every rank looks at it between two steps, so it is a file that stays open and is overwritten in place.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import astuple, dataclass
from pathlib import Path

REQUEST_FILE = "request"
LENGTH_BYTES = 96


@dataclass(frozen=True, slots=True)
class Request:
    """Capture `steps` steps from `first_step` on. `number` tells one request from the one before it."""

    number: int
    first_step: int
    steps: int


NOTHING_YET = Request(0, 0, 0)


def make_request_file(root: Path) -> None:
    """In a new run folder: nothing is asked for yet. OSError where it cannot be written."""
    write_request(root, NOTHING_YET)


def write_request(root: Path, request: Request) -> None:
    """Ask every rank of the run in `root`. OSError where it cannot be written."""
    numbers = (*astuple(request), sum(astuple(request)))  # the sum tells a line that is half written
    line = " ".join(map(str, numbers)).ljust(LENGTH_BYTES - 1)
    file = os.open(root / REQUEST_FILE, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(file, f"{line}\n".encode(), 0)
    finally:
        os.close(file)


def read_request(root: Path) -> Request:
    """What was asked for last. OSError where there is no such file."""
    return _parsed((root / REQUEST_FILE).read_bytes()) or NOTHING_YET


class RequestReader:
    """A rank's view of the requests; those from before it began are not meant for it."""

    def __init__(self, root: Path) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):  # on another machine the folder may be absent
            self._file = os.open(root / REQUEST_FILE, os.O_RDONLY | os.O_CLOEXEC)
        self._line = b""
        self.new_request()

    def new_request(self) -> Request | None:
        """The request that has come since the last call, if one has."""
        if self._file is None:
            return None
        line = os.pread(self._file, LENGTH_BYTES, 0)
        if line == self._line or (request := _parsed(line)) is None:
            return None
        self._line = line
        return request


def _parsed(line: bytes) -> Request | None:
    try:
        *numbers, total = map(int, line.split())
        return Request(*numbers) if total == sum(numbers) else None
    except (ValueError, TypeError):
        return None
