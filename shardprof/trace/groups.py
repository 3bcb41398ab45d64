"""Which process group a collective ran in: names, descriptions and ranks, from the trace's header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shardprof.trace.collectives import ProcessGroup
from shardprof.words import plural

_MOST_RANKS = 1 << 16  # a damaged header may claim any number


def distributed_info(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The header's `distributedInfo`, empty where there is none."""
    info = metadata.get("distributedInfo")
    return info if isinstance(info, dict) else {}


class GroupTable:
    """The process groups of a trace, from its `distributedInfo` (absent in traces of a single process)."""

    def __init__(self, distributed_info: dict[str, Any]) -> None:
        configured = distributed_info.get("pg_config")
        entries = configured if isinstance(configured, list) else []
        groups = (_from_config(entry) for entry in entries if isinstance(entry, dict))
        self._groups = {group.name: group for group in groups}
        world_size = _count(distributed_info.get("world_size"))
        if not self._groups and world_size:
            ranks = tuple(range(world_size)) if world_size <= _MOST_RANKS else None
            self._groups["0"] = ProcessGroup(name="0", description="default_pg", size=world_size, ranks=ranks)

    def named(self, name: str) -> ProcessGroup | None:
        """The group of that torch name."""
        return self._groups.get(name)

    def only(self) -> ProcessGroup | None:
        """The group of every collective, where the job has one; None where it has several or none is told."""
        return next(iter(self._groups.values())) if len(self._groups) == 1 else None

    def of_size(self, size: int) -> ProcessGroup | None:
        """The one group of that size; where several fit, only the size is certain."""
        fitting = [group for group in self._groups.values() if group.size == size]
        if len(fitting) == 1:
            return fitting[0]
        return ProcessGroup(name="", description=plural(size, "rank"), size=size, ranks=None)

    def of_metadata(self, arguments: dict[str, Any]) -> ProcessGroup | None:
        """The group that NCCL's collective metadata on an event names."""
        name = arguments.get("Process Group Name")
        known = self.named(str(name)) if name is not None else None
        if known is not None and known.ranks is not None:
            return known
        size = arguments.get("Group size")
        if name is None and size is None:
            return None
        size = _count(size) or (known.size if known else None)
        described = arguments.get("Process Group Description") or (known.description if known else name)
        return ProcessGroup(
            name=str(name or ""),
            description=str(described or ""),
            size=size,
            ranks=rank_list(arguments.get("Process Group Ranks")),
        )


def _from_config(entry: dict[str, Any]) -> ProcessGroup:
    ranks = rank_list(entry.get("ranks"))
    size = entry.get("pg_size")
    return ProcessGroup(
        name=str(entry.get("pg_name", "")),
        description=str(entry.get("pg_desc") or entry.get("pg_name", "")),
        size=_count(size) or (len(ranks) if ranks else None),
        ranks=ranks,
    )


def _count(value: object) -> int | None:
    """A number of ranks; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def rank_list(value: object) -> tuple[int, ...] | None:
    """The ranks of a group; None where they are not told whole. Kineto writes lists inside events as text and cuts them
    at 30 items ("[0, 1, ..., 29, ...]")."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list) and value and all(isinstance(rank, int) for rank in value):
        return tuple(value)
    return None
