"""What a process group is for, and over how many nodes it reaches."""

from __future__ import annotations

import pytest

from shardprof.analysis.group_places import with_places
from shardprof.analysis.result import Collective, Rank
from tests.unit.builders import collective, rank

NODES = [rank(0, host="a"), rank(1, host="a"), rank(2, host="b"), rank(3, host="b")]


def dimensions(*rows: Collective) -> list[str | None]:
    return [row.dimension for row in with_places(rows, [])]


def test_nodes_are_counted_where_every_rank_has_a_known_one() -> None:
    def nodes(members: list[int], ranks: list[Rank]) -> int | None:
        (row,) = with_places([collective("all_gather", "default_pg", members)], ranks)
        return row.nodes

    assert nodes([0, 1], NODES) == 1
    assert nodes([0, 1, 2, 3], NODES) == 2
    assert nodes([0, 1, 2, 3], NODES[:3]) is None
    assert nodes([0, 1], [rank(0), rank(1)]) is None


@pytest.mark.parametrize(
    ("name", "dimension"),
    [("mesh_shard", "shard"), ("mesh_dp_replicate", "replicate"), ("mesh_dp_shard_cp", "shard"), ("mesh_tp", None)],
)
def test_a_mesh_dimension_with_a_name_is_told_by_it(name: str, dimension: str | None) -> None:
    rows = [collective(kind, name, [0, 1]) for kind in ("all_gather", "reduce_scatter")]
    assert dimensions(*rows) == [dimension, dimension]


def test_groups_without_a_name_are_told_by_what_they_do() -> None:
    sharded = [collective(kind, "mesh_dim_1", [0, 1]) for kind in ("all_gather", "reduce_scatter")]
    assert dimensions(*sharded, collective("all_reduce", "mesh_dim_0", [0, 2])) == ["shard", "shard", "replicate"]


def test_an_all_reduce_alone_tells_nothing() -> None:
    assert dimensions(collective("all_reduce", "default_pg", [0, 1])) == [None]
    assert dimensions(collective("all_gather", "default_pg", [0, 1])) == [None]
