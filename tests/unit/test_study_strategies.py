"""What cannot be trained is refused before any rank is connected."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from shardprof.study.errors import WorkloadError
from shardprof.study.strategies import STRATEGIES, Settings, check
from shardprof.study.world import World, find_world


def world_of(size: int) -> World:
    return World(rank=0, size=size, local_rank=0, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("strategy", "ranks", "settings", "message"),
    [
        ("none", 2, Settings(), "strategy none is for one process, not for 2"),
        ("fsdp2-hybrid", 3, Settings(shard_size=2), "3 ranks do not divide into shard groups of 2"),
        ("fsdp1-hybrid", 4, Settings(shard_size=3), "4 ranks do not divide into shard groups of 3"),
        ("zero2", 2, Settings(precision="fp16"), "DeepSpeed has no fp16 on a CPU"),
    ],
)
def test_impossible_combinations_are_refused(strategy: str, ranks: int, settings: Settings, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        check(strategy, world_of(ranks), settings)


def test_zero_without_deepspeed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorkloadError, match=r"pip install shardprof\[deepspeed\]"):
        check("zero3", world_of(2), Settings())


def test_every_strategy_but_none_is_possible_on_four_ranks() -> None:
    for strategy in STRATEGIES.keys() - {"none"}:
        check(strategy, world_of(4), Settings(precision="bf16"))


def test_the_world_is_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert find_world() == World(rank=5, size=8, local_rank=1, device=torch.device("cpu"))


def test_more_ranks_than_gpus_are_refused_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(WorkloadError, match="2 ranks on a node with 1 GPUs"):
        find_world()
