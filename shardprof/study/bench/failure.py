"""Why a training ended as it did, told from exit codes, from what it printed, and from what the kernel counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.study.bench.output import clipped, last_words, tail_of
from shardprof.study.results import FAILED, FINISHED, OUT_OF_MEMORY, TIMED_OUT

_RANK = r"(?:\[(?:rank)?(?P<rank>\d+)\]:?\s*)?"
_ERROR = re.compile(rf"^{_RANK}(?P<error>(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*)$")
_OWN = re.compile(r"^(?P<error>vit: .*|torchrun: error.*|.*: error: .*)$")
_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator: (can't allocate|not enough) memory|"
    r"^(\[rank\d+\]: *)?MemoryError|Cannot allocate memory|std::bad_alloc",
    re.MULTILINE,
)
_OF_THE_LAUNCHER = ("ChildFailedError", "SignalException", "CalledProcessError", "RendezvousConnectionError")
_OF_PEERS = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
"""What ranks say who lost another one."""
_KILLED = re.compile(r"exitcode\s*: -9\b|Signal 9 \(SIGKILL\)|exits with return code = -9")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training ended: one of results.STATUSES, and why where it is not "finished"."""

    status: str
    reason: str = ""


def ending(
    exit_codes: Sequence[int], outputs: Sequence[Path], *, timeout_s: int | None, oom_kills: int, is_complete: bool
) -> Ending:
    """Of a job whose nodes ended with these codes and printed these files. `timeout_s` is what it was given where it
    was stopped for that; `oom_kills` is how many processes the kernel has killed meanwhile because memory ran out;
    `is_complete` is whether the training told that it came to its end."""
    texts = [tail_of(path) for path in outputs]
    if timeout_s is not None:
        return Ending(TIMED_OUT, f"did not end within {timeout_s} s{_last_words(texts)}")
    if not any(exit_codes):
        if is_complete:
            return Ending(FINISHED)
        return Ending(FAILED, f"exit code 0, but the training did not come to its end{_last_words(texts)}")
    for text in texts:
        if memory := _MEMORY.search(text):
            return Ending(OUT_OF_MEMORY, clipped(_line_around(text, memory.start())))
    if oom_kills and (any(map(_KILLED.search, texts)) or any(code in (137, -9) for code in exit_codes)):
        return Ending(OUT_OF_MEMORY, "the kernel killed a rank because the machine's memory had run out")
    return Ending(FAILED, clipped(_error_of(texts) or _without_error(exit_codes, texts)))


def oom_kill_count() -> int:
    """How many processes the kernel of this machine has killed so far because memory had run out."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _error_of(texts: Sequence[str]) -> str | None:
    """The first error that a rank raised by itself; then that one was killed, what ranks said who lost it, and a
    launcher's error."""
    found = [match["error"] for text in texts for line in text.splitlines() if (match := _match(line))]
    of_ranks = [error for error in found if not _has_one_of(_OF_THE_LAUNCHER, error)]
    own = [error for error in of_ranks if not _has_one_of(_OF_PEERS, error)]
    killed = ["a rank was killed (signal 9)"] if any(map(_KILLED.search, texts)) else []
    return next(iter([*own, *killed, *of_ranks, *found]), None)


def _has_one_of(words: Sequence[str], error: str) -> bool:
    return any(word in error for word in words)


def _without_error(exit_codes: Sequence[int], texts: Sequence[str]) -> str:
    failed = [text for code, text in zip(exit_codes, texts, strict=True) if code]
    return f"exit code {next(filter(None, exit_codes))}{_last_words(failed) or ', and it printed nothing'}"


def _match(line: str) -> re.Match[str] | None:
    return _ERROR.match(line.strip()) or _OWN.match(line.strip())


def _line_around(text: str, place: int) -> str:
    begin = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[begin : end if end >= 0 else len(text)]
    return re.sub(rf"^{_RANK}", "", line.strip())


def _last_words(texts: Sequence[str]) -> str:
    words = last_words(texts)
    return f"; the last it printed: {words}" if words else ""
