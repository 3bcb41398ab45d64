"""Which run folder do the ranks of a job share, where each of them enters `with shardprof.record()` by itself?

They meet in the key-value store by which their process group came about: whoever comes first makes the run and tells
the others where; a node that shares no storage with that one makes its own. No collective is made, nobody waits for a
rank that does not come. A process without a process group has a run of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from shardprof.recording import identity, join
from shardprof.recording.rank import groups
from shardprof.trace.schema import RANK_FILE, RankRecord, RunFolder, read_whole

TOLD_WITHIN_S = 30.0  # the first one makes a folder and a few small files meanwhile
_EVERY_S = 0.02
_SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A run to record into, as `host`; the first one of its node sees to what is recorded of the node. `is_of_node`:
    it is this node's own, which shares no storage with that of the first rank."""

    run: RunFolder
    host: str
    is_first_on_node: bool
    is_of_node: bool = False


def meet(make: Callable[[], RunFolder]) -> Met:
    """Find the others' run, or `make` one and tell them. OSError where it cannot be made, TimeoutError where the rank
    that was to make it does not say so in time."""
    if not groups.is_distributed():
        run = make()
        return Met(run=run, host=join.claim_host(run), is_first_on_node=True)
    c10d: Any = dist.distributed_c10d
    store = c10d.PrefixStore("shardprof", c10d._get_default_store())
    run, key, is_of_node = _run_of_all(store, make)
    host, is_first = _first_tells(store, f"{key} on {identity.of_node()}", lambda: join.claim_host(run))
    return Met(run=run, host=host, is_first_on_node=is_first, is_of_node=is_of_node)


def _run_of_all(store: Any, make: Callable[[], RunFolder]) -> tuple[RunFolder, str, bool]:
    """The run of this rank's n-th block, its key, and whether it is this node's own; of a later block where only others
    were in some before."""
    while True:
        key = f"run {store.add(f'blocks of rank {dist.get_rank()}', 1)}"
        run, is_made, is_of_node = _run_of_block(store, key, make)
        if is_made or not _is_over(run):
            return run, key, is_of_node


def _run_of_block(store: Any, key: str, make: Callable[[], RunFolder]) -> tuple[RunFolder, bool, bool]:
    """The run that the first rank has made, or one of this node's own where that is not seen here; whether this rank
    has made it, and whether it is the node's own. The first of a node decides for the others there."""
    root, is_made = _first_tells(store, key, lambda: str(make().root))
    is_here = RunFolder(Path(root)).run_file.exists
    told, is_first = _first_tells(
        store, f"{key} of {identity.of_node()}", lambda: _SHARED if is_here() else str(make().root)
    )
    if told == _SHARED:
        return RunFolder(Path(root)), is_made, False
    return RunFolder(Path(told)), is_first, True


def _first_tells(store: Any, key: str, find: Callable[[], str]) -> tuple[str, bool]:
    """What the first one to ask finds, on all ranks that ask; and whether this is the first."""
    if store.add(f"{key} asked", 1) > 1:
        return _told(store, key), False
    found = ""
    try:
        found = find()
    finally:
        store.set(key, found)
    return found, True


def _told(store: Any, key: str) -> str:
    """Asked for again and again: a wait inside the store would keep its lock from others."""
    end = time.monotonic() + TOLD_WITHIN_S
    while not store.check([key]):
        if time.monotonic() > end:
            raise TimeoutError(f"no rank has told the {key} for {TOLD_WITHIN_S:.0f} s")
        time.sleep(_EVERY_S)
    told = str(store.get(key).decode())
    if not told:
        raise OSError(f"the rank that was to make the {key} could not")
    return told


def _is_over(run: RunFolder) -> bool:
    """Has everybody left who was in its block?"""
    records = [_record(folder) for folder in run.rank_folders()]
    return bool(records) and all(record is not None and record.exit_code is not None for record in records)


def _record(folder: Path) -> RankRecord | None:
    try:
        return read_whole(RankRecord, folder / RANK_FILE)
    except (OSError, ValueError, TypeError):
        return None  # claimed a moment ago
