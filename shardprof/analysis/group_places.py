"""What each process group is for, shards or replicas of the model, and over how many nodes it reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shardprof.analysis.result import Collective, Rank

SHARD, REPLICATE = "shard", "replicate"
_SHARD_KINDS = {"all_gather", "reduce_scatter"}
# What torch calls a group whose maker told nothing of its place: any of a mesh without names, or that of all ranks.
_TELLS_NOTHING = re.compile(r"(?:default_pg|undefined|mesh_dim_\d+|mesh_\d+|\d+ ranks|unknown)?")

_Group = tuple[str, "tuple[int, ...] | None"]


def with_places(rows: Sequence[Collective], ranks: Sequence[Rank]) -> tuple[Collective, ...]:
    """The communication table with `nodes` and `dimension` of each row."""
    hosts = {rank.rank: rank.host for rank in ranks if rank.host is not None}
    kinds: dict[_Group, set[str]] = {}
    for row in rows:
        kinds.setdefault((row.group, row.ranks), set()).add(row.kind)
    return tuple(replace(row, nodes=_nodes(row, hosts), dimension=_dimension(row, kinds)) for row in rows)


def _nodes(row: Collective, hosts: Mapping[int, str]) -> int | None:
    """Over how many nodes the group reaches; None where the node of a rank of it is not known."""
    if not row.ranks or not set(row.ranks) <= set(hosts):
        return None
    return len({hosts[rank] for rank in row.ranks})


def _dimension(row: Collective, kinds: Mapping[_Group, set[str]]) -> str | None:
    """By its name; where that tells nothing by what it does: a model's shards are gathered and gradients scattered to
    them, and beside such groups those that only all-reduce hold replicas of a shard."""
    if not _TELLS_NOTHING.fullmatch(row.group):
        return next((place for place in (REPLICATE, SHARD) if place in row.group.lower()), None)
    own = kinds[row.group, row.ranks]
    if own >= _SHARD_KINDS:
        return SHARD
    has_shards = any(of_group >= _SHARD_KINDS for of_group in kinds.values())
    return REPLICATE if has_shards and "all_reduce" in own and not own & _SHARD_KINDS else None
