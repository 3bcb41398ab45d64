"""Who this process is in the job: its rank, its device, and the process group of all ranks.

Read from what torchrun and the deepspeed launcher put into the environment; a plain `python` is a world of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from shardprof.study.errors import WorkloadError


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One rank's place: its number, how many there are, its number on its node, and the device it trains on."""

    rank: int
    size: int
    local_rank: int
    device: torch.device

    @property
    def backend(self) -> str:
        """The collective library of the device."""
        return "nccl" if self.device.type == "cuda" else "gloo"


def find_world() -> World:
    """This process's place in the job; nothing is connected yet.

    Raises WorkloadError where a node with GPUs was given more ranks than it has GPUs.
    """
    local_rank = _from_environment("LOCAL_RANK", default=0)
    return World(
        rank=_from_environment("RANK", default=0),
        size=_from_environment("WORLD_SIZE", default=1),
        local_rank=local_rank,
        device=_device(local_rank),
    )


def _from_environment(*names: str, default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    ranks, gpus = _from_environment("LOCAL_WORLD_SIZE", "LOCAL_SIZE", default=1), torch.cuda.device_count()
    if ranks > gpus:
        raise WorkloadError(f"{ranks} ranks on a node with {gpus} GPUs", f"start at most {gpus} ranks on it")
    return torch.device("cuda", local_rank)


@contextmanager
def connected(world: World) -> Iterator[None]:
    """The other ranks, joined while it lasts; a world of one that no launcher started needs no address.

    Whatever holds the process group must be gone when it ends: torch deadlocks where DistributedDataParallel is the
    last to let go of it. After an error the group is left alone, because leaving waits for ranks that may never come.
    """
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    if "MASTER_ADDR" in os.environ:
        dist.init_process_group(world.backend)
    else:
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
        dist.init_process_group(world.backend, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    yield
    dist.destroy_process_group()
