"""Why a training ended as it did, told from exit codes, from what it printed, and from what the kernel counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.study.results import FAILED, FINISHED, OUT_OF_MEMORY, TIMED_OUT

_TAIL_BYTES = 256 * 1024
_LONGEST = 300
_RANK = r"(?:\[(?:rank)?(?P<rank>\d+)\]:?\s*)?"
_ERROR = re.compile(rf"^{_RANK}(?P<error>(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*)$")
_OWN = re.compile(r"^(?P<error>vit: .*; .*|vit: .*|torchrun: error.*|.*: error: .*)$")
_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator: (can't allocate|not enough) memory|"
    r"^(\[rank\d+\]: *)?MemoryError|Cannot allocate memory|std::bad_alloc",
    re.MULTILINE,
)
_OF_THE_LAUNCHER = ("ChildFailedError", "SignalException", "CalledProcessError", "RendezvousConnectionError")
_KILLED = re.compile(r"exitcode\s*: -9\b|Signal 9 \(SIGKILL\)|exits with return code = -9")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training ended: one of results.STATUSES, and why where it is not "finished"."""

    status: str
    reason: str = ""


def ending(exit_codes: Sequence[int], outputs: Sequence[Path], timeout_s: int | None, oom_kills: int) -> Ending:
    """Of a job whose nodes ended with these codes and printed these files. `timeout_s` is what it was given where it
    was stopped for that; `oom_kills` is how many processes the kernel has killed meanwhile because memory ran out."""
    texts = [_tail(path) for path in outputs]
    if timeout_s is not None:
        return Ending(TIMED_OUT, f"did not end within {timeout_s} s{_last_words(texts)}")
    if not any(exit_codes):
        return Ending(FINISHED)
    for text in texts:
        if memory := _MEMORY.search(text):
            return Ending(OUT_OF_MEMORY, _clipped(_line_around(text, memory.start())))
    if oom_kills and (any(map(_KILLED.search, texts)) or any(code in (137, -9) for code in exit_codes)):
        return Ending(OUT_OF_MEMORY, "the kernel killed a rank because the machine's memory had run out")
    code = next(code for code in exit_codes if code)
    return Ending(FAILED, _clipped(_error_of(texts) or f"exit code {code}, without an error message"))


def oom_kill_count() -> int:
    """How many processes the kernel of this machine has killed so far because memory had run out."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _error_of(texts: Sequence[str]) -> str | None:
    """The first error that a rank raised; a launcher's only where no rank said anything."""
    found = [match["error"] for text in texts for line in text.splitlines() if (match := _match(line))]
    own = [error for error in found if not any(name in error for name in _OF_THE_LAUNCHER)]
    killed = next(("a rank was killed (signal 9)" for text in texts if _KILLED.search(text)), None)
    return next(iter(own), None) or killed or next(iter(found), None)


def _match(line: str) -> re.Match[str] | None:
    return _ERROR.match(line.strip()) or _OWN.match(line.strip())


def _line_around(text: str, place: int) -> str:
    begin = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[begin : end if end >= 0 else len(text)]
    return re.sub(rf"^{_RANK}", "", line.strip())


def _last_words(texts: Sequence[str]) -> str:
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return f"; the last it printed: {_clipped(lines[-1])}" if lines else ""


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
