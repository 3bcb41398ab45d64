"""Which lines of a log are NCCL's, who wrote them and when: through launchers' prefixes, colours and torn lines.

Ranks share one output, and a long line is not written at once: another rank's may begin inside it. So of a line with
several marks ("NCCL INFO") only what follows the last one is whole; what is before is torn, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple, Protocol

INFO, WARN, PLAIN = "INFO", "WARN", ""
"""Levels that are used; PLAIN is a line without NCCL's mark (NCCL's version, what torch says of an NCCL error)."""

MOST_LINE_BYTES = 1 << 16
"""Longer lines are read in pieces. NCCL cuts its own at 1,024 bytes; what is put before them is short."""

MOST_MESSAGE = 4096
"""Characters of a message that are kept: expressions are tried on it."""

_MOST_PREFIX = 512
_NAMED = re.compile(rb"[NR]CCL|nccl|(?:HIP|ROCm) version")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_MARK = re.compile(r"NCCL (INFO|WARN|TRACE|CALL)(?: |$)")
_PREFIX = re.compile(
    r"(?<![^\s:\[\]<>()])(?:(?!\d{1,2}:\d\d:\d\d )(?P<host>[^\s:\[\]<>()]{1,255}):(?P<pid>\d{1,9}):(?P<tid>\d{1,9}) +)?"
    r"(?:\[-?\d{1,9}\] )?"
    r"(?:(?:[^\s:]{1,255}:\d{1,9}(?: \([^()]{1,127}\))?|\d{1,15}\.\d{1,9} [^\s:]{0,127}:\d{1,9}) )?$"
)
_EPOCH = re.compile(r"(?<!\d)(\d{9,10})(?:[.,](\d{1,9}))?\]?\s*$")
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?(?![\d:.])",
)
_LABELS = re.compile(
    r"(?P<torch>\[(?:rank|[a-z_]+)\d{1,6}\]:)|(?P<mpi>\[\d{1,6},\d{1,6}\]<std(?:out|err)>:)"
    r"|(?P<ray>\(\w{1,64} pid=\d{1,9}(?:, ip=[\w.:]{1,64})?\))|^(?P<operator>\[\d{1,6}\]) |^\s{0,8}(?P<srun>\d{1,6}): "
)
_RANK_OF_LABEL = re.compile(r"\[rank(\d+)\]:|\[\d+,(\d+)\]<|^(\d+)$")
_S = 1_000_000_000
_LAST_S = 9_000_000_000  # what int64 nanoseconds hold


class Line(NamedTuple):
    """A whole line. `host` is "" and `pid` None where the prefix is missing; `label` is then the launcher's, if any.
    `time_ns` is of the epoch: None without a time, or where that is local time without its zone (as NCCL's default).
    `torn` counts the lines that ended inside this one."""

    level: str
    message: str
    host: str = ""
    pid: int | None = None
    tid: int | None = None
    label: str = ""
    rank: int | None = None
    time_ns: int | None = None
    torn: int = 0


class Bytes(Protocol):
    """What lines are read from: a binary file, or what unpacks one."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or the next `size` bytes of it; empty at the end."""


def lines_of(source: Bytes) -> Iterator[Line]:
    """The lines of NCCL's, and others that may tell of it, in order. Memory is bounded by the longest piece of
    a line, whatever the bytes are."""
    while raw := source.readline(MOST_LINE_BYTES):
        if not _NAMED.search(raw):
            continue
        for part in raw.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
            text = _COLOUR.sub("", part)
            if text:
                yield line_of(text)


def line_of(text: str) -> Line:
    """One line of text, without colours and its end."""
    marks = list(_MARK.finditer(text))
    if not marks:
        label, rank = _launcher(text[:_MOST_PREFIX])
        return Line(level=PLAIN, message=text[:MOST_MESSAGE], label=label, rank=rank)
    mark = marks[-1]
    before = text[max(0, mark.start() - _MOST_PREFIX) : mark.start()]
    prefix = _PREFIX.search(before)
    lead = before[: prefix.start()] if prefix else before
    label, rank = _launcher(lead)
    host, pid, tid = prefix.group("host", "pid", "tid") if prefix else (None, None, None)
    return Line(
        level=mark[1],
        message=text[mark.end() : mark.end() + MOST_MESSAGE].rstrip(),
        host=host or "",
        pid=int(pid) if pid else None,
        tid=int(tid) if tid else None,
        label=label,
        rank=rank,
        time_ns=_time_ns(lead) if lead else None,
        torn=len(marks) - 1,
    )


def _launcher(lead: str) -> tuple[str, int | None]:
    """What a launcher put before a line, and which rank it says that this is."""
    found = list(_LABELS.finditer(lead))
    label = " ".join(match[0].strip(" :") if match["srun"] else match[0].strip() for match in found)
    ranks = (_RANK_OF_LABEL.search(match["srun"] or match[0]) for match in found if not match["operator"])
    told = next((match for match in ranks if match), None)
    return label, int(next(group for group in told.groups() if group)) if told else None


def _time_ns(lead: str) -> int | None:
    """When, by what stands before the host's name: seconds since the epoch, or a date with its zone."""
    if epoch := _EPOCH.search(lead):
        return _nanoseconds(int(epoch[1]), epoch[2])
    dates = [date for date in _DATE.finditer(lead) if date[4]]
    if not dates:
        return None
    day, clock, fraction, zone = dates[-1].groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{_offset(zone)}")
        return _nanoseconds(int(at.astimezone(timezone.utc).timestamp()), fraction)
    except (ValueError, OverflowError):  # no such day, or one of another age
        return None


def _offset(zone: str) -> str:
    return "+00:00" if zone == "Z" else f"{zone[:3]}:{zone[-2:]}"


def _nanoseconds(seconds: int, fraction: str | None) -> int | None:
    return seconds * _S + int((fraction or "0").ljust(9, "0")) if 0 < seconds < _LAST_S else None
