"""What the kernel counts for one process. Its files stay open: whoever gets the same pid later is not taken for it."""

from __future__ import annotations

import os
import re
from contextlib import suppress

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MOST_BYTES = 1 << 16

_SWITCHES = re.compile(rb"^(non)?voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_IO = re.compile(rb"^(read_bytes|write_bytes): (\d+)", re.MULTILINE)
_PRIVATE = re.compile(rb"^Private_\w+:\s+(\d+) kB", re.MULTILINE)


class Process:
    """A running process of this machine. OSError where there is none."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        self._files: dict[str, int] = {}

    def values(self) -> dict[str, float]:
        """Its counters now, less those that the kernel does not tell. ProcessLookupError once it has ended."""
        values = _of_stat(self._read("stat"))
        for name, of_file in (("schedstat", _of_schedstat), ("status", _of_status), ("io", _of_io)):
            with suppress(OSError, ValueError):
                values |= of_file(self._read(name))
        return values

    def own_memory(self) -> dict[str, float]:
        """What no other process shares (USS). The kernel walks all its pages for that."""
        with suppress(OSError):
            private = _PRIVATE.findall(self._read("smaps_rollup"))
            return {"uss_bytes": sum(map(int, private)) << 10}
        return {}

    def close(self) -> None:
        """It is not asked any more."""
        for descriptor in (*self._files.values(), self._folder):
            os.close(descriptor)

    def _read(self, name: str) -> bytes:
        if name not in self._files:
            self._files[name] = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        return os.pread(self._files[name], MOST_BYTES, 0)


def _of_stat(data: bytes) -> dict[str, float]:
    fields = data[data.rindex(b")") + 2 :].split()  # the name before may hold anything
    if fields[0] in b"ZX":
        raise ProcessLookupError
    return {
        "minor_page_faults": int(fields[7]),
        "major_page_faults": int(fields[9]),
        "cpu_user_s": int(fields[11]) / TICKS_PER_S,
        "cpu_system_s": int(fields[12]) / TICKS_PER_S,
        "threads": int(fields[17]),
        "rss_bytes": int(fields[21]) * PAGE_BYTES,
    }


def _of_schedstat(data: bytes) -> dict[str, float]:
    """Of the main thread, as is `status`."""
    running_ns, waiting_ns, _ = map(int, data.split())
    return {"main_thread_cpu_s": running_ns / 1e9, "main_thread_waiting_s": waiting_ns / 1e9}


def _of_status(data: bytes) -> dict[str, float]:
    switches = _SWITCHES.findall(data)
    return {f"{'in' if forced else ''}voluntary_context_switches": int(count) for forced, count in switches}


def _of_io(data: bytes) -> dict[str, float]:
    return {name.decode(): int(count) for name, count in _IO.findall(data)}
