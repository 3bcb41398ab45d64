"""How traces are read: which limits hold, and many files at once within them."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shardprof.trace.files import Place

T = TypeVar("T")
R = TypeVar("R")

_MEMORY_SHARE = 0.5
"""Of the memory that is free, what reading may take unless a limit is given."""
_BYTES_PER_EVENT = 110
"""What columns and analysis take, about."""
_BYTES_PER_STORED_BYTE = {".json": 0.5, ".gz": 8.0, ".zst": 8.0}
"""The same for a byte of a file: the text of an event takes 250, and 15 when it is compressed."""
_SMALLEST_COST_BYTES = 16 << 20
_REMOTE_COST_BYTES = 512 << 20
CLOCKS = ("collectives", "traces")
"""What may tell how the clocks of ranks relate: the ends of the collectives that they share, or their own times."""

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a user may set: files read at once, memory for it, the longest text of a file, where a path names its rank,
    and what tells how ranks' clocks relate.

    None is the default: every processor, half of the free memory, what no honest trace exceeds, the usual forms.
    """

    jobs: int | None = None
    memory_bytes: int | None = None
    max_text_bytes: int | None = None
    rank_regex: re.Pattern[str] | None = None
    clock: str = CLOCKS[0]

    def budget_bytes(self) -> int:
        """The memory that reading may take."""
        return self.memory_bytes or int(_MEMORY_SHARE * free_memory_bytes())

    def max_events(self) -> int:
        """The longest trace that this memory holds."""
        return self.budget_bytes() // _BYTES_PER_EVENT


USUAL_READING = Reading()


def in_parallel(
    items: Iterable[T], cost_bytes: Callable[[T], int], work: Callable[[T], R], how: Reading
) -> Iterator[R]:
    """The results of `work` in the order of the items. What is done or under way and not yet taken from here stays
    within the number of jobs, one more, and the memory; a single item may exceed the memory. Whoever stops early does
    not wait for what is under way."""
    jobs = how.jobs or len(os.sched_getaffinity(0))
    budget = how.budget_bytes()
    waiting = deque(items)
    under_way: deque[tuple[int, Future[R]]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="shardprof-read")
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs + 1:
                cost = cost_bytes(waiting[0])
                if under_way and sum(taken for taken, _ in under_way) + cost > budget:
                    break
                under_way.append((cost, pool.submit(work, waiting.popleft())))
            yield under_way[0][1].result()
            under_way.popleft()  # only now: until the next is asked for, its memory is in use
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def memory_cost_bytes(files: Iterable[Place]) -> int:
    """What reading these files will take, about: from their sizes, since nothing else is known before."""
    return sum(_file_cost_bytes(file) for file in files)


def _file_cost_bytes(file: Place) -> int:
    if not isinstance(file, Path):
        return _REMOTE_COST_BYTES
    with suppress(OSError):
        factor = _BYTES_PER_STORED_BYTE.get(file.suffix, 1.0)
        return max(_SMALLEST_COST_BYTES, int(factor * file.stat().st_size))
    return _SMALLEST_COST_BYTES


def free_memory_bytes() -> int:
    """What this process may still take: of the machine's memory, or of its container's."""
    limits = [_available_bytes()]
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        limits.append(limit - int((_CGROUP / "memory.current").read_text()) + _reclaimable_bytes())
    return max(min(limits), _SMALLEST_COST_BYTES)


def _reclaimable_bytes() -> int:
    """Of what a container's memory holds, files that were read and are kept while nobody needs the room."""
    with suppress(OSError, ValueError, IndexError):
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0


def _available_bytes() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
