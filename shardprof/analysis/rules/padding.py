"""R26: FSDP2 fills tensors up to a multiple of the ranks, and moves and keeps what it filled them with."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said

MOST_PADDED = 1.1
LEAST_BYTES = 1_000_000
_KINDS = ("all_gather", "reduce_scatter")


def find(case: Case) -> Iterator[Finding]:
    """Where what is gathered is more than MOST_PADDED of the parameters, by LEAST_BYTES or more."""
    padded, parameters = case.number("gather_bytes"), case.number("parameter_bytes")
    gathered = sum(kind.calls for kind in case.kinds("all_gather"))
    if case.framework != "FSDP2" or not padded or not parameters or not gathered:
        return
    if padded <= MOST_PADDED * parameters or padded - parameters < LEAST_BYTES:
        return
    mesh = case.setting("mesh")
    ranks = mesh[-1] if isinstance(mesh, list) and mesh else "all"
    seen = case.exposed(*_KINDS)
    cost_ns = case.waiting_ns(*_KINDS) * (1 - parameters / padded)
    yield case.finding(
        "R26",
        f"Sharding among {ranks} ranks makes the parameters {padded / parameters:.2f}x as large",
        [
            said(f"{padded / 1e6:,.4g} MB are gathered of {parameters / 1e6:,.4g} MB of parameters: dimension 0 of "
                 f"each tensor is padded to a multiple of {ranks}; gradients and optimizer states are padded alike")
        ],
        cost_ns if seen else None,
        Turn(
            advice="shard among fewer ranks, or along a dimension that they divide",
            knob='init_device_mesh(device, (REPLICAS, SHARDS), mesh_dim_names=("replicate", "shard")) as the mesh of '
            "fully_shard; or fully_shard(block, shard_placement_fn=lambda p: Shard(1) if p.ndim > 1 else None) where "
            f"{ranks} divides dimension 1",
            side_effect="with replicas shards are larger and all-reduced; along dimension 1 gathering copies more",
            disproof="all-gathers move as many bytes as before",
        ),
    )  # fmt: skip
