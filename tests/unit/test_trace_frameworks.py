"""Frameworks are told by the names of the ranges that they leave in traces."""

from __future__ import annotations

import pytest

from shardprof.trace.framework_names import framework_of


@pytest.mark.parametrize(
    ("names", "framework"),
    [
        (["aten::mm", "FSDP::all_gather (layers.0)"], "FSDP2"),
        (["FullyShardedDataParallel._pre_forward", "aten::mm"], "FSDP1"),
        (["DistributedDataParallel.forward"], "DDP"),
        (["DistributedDataParallel.forward", "DeepSpeedEngine.forward"], "DeepSpeed"),
        (["aten::mm", "my FSDP::range"], None),
        ([], None),
    ],
)
def test_a_framework_is_known_by_its_ranges(names: list[str], framework: str | None) -> None:
    assert framework_of(names) == framework
