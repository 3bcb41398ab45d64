"""Which rank is this process, and is it the first to say so? One file per rank and restart decides."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from shardprof.record import groups
from shardprof.trace.schema import RankRecord, RunFolder


class RankTakenError(Exception):
    """Another process of the job has the rank; the message says which."""


def claim(config: dict[str, Any]) -> tuple[Path, RankRecord]:
    """The folder and the first record of this process's rank. Raises RankTakenError."""
    rank = _rank()
    folder = RunFolder(Path(config["run"])).rank(rank)
    folder.mkdir(parents=True, exist_ok=True)
    restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    try:
        descriptor = os.open(folder / f"claim.{restart}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        owner = (folder / f"claim.{restart}").read_text().strip()  # empty while it is being written
        raise RankTakenError(f"rank {rank} is another process's ({owner or 'host and pid unknown'})") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{config['host']} {os.getpid()}\n")
    if restart:
        _put_aside(folder, f"attempt-{restart - 1}")
    record = RankRecord(
        rank=rank,
        world_size=world_size(),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        host=config["host"],
        pid=os.getpid(),
        device=device(),
        started_ns=time.time_ns(),
        versions=versions(),
    )
    return folder, record


def world_size() -> int:
    """How many ranks the job has."""
    return dist.get_world_size() if groups.is_distributed() else int(os.environ.get("WORLD_SIZE", "1"))


def device() -> str:
    """What the rank computes on, as far as it has begun to."""
    return "cuda" if groups.uses_cuda() else "cpu"


def versions() -> dict[str, str]:
    """The versions that explain differences between runs; only of what the script itself has imported."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("deepspeed", "transformers", "accelerate"):
        if version := getattr(sys.modules.get(name), "__version__", None):
            found[name] = str(version)
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def _rank() -> int:
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return dist.get_rank() if groups.is_distributed() else 0


def _put_aside(folder: Path, name: str) -> None:
    """What the attempt before the restart left makes room for this one's files."""
    aside = folder / name
    aside.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("claim."):
            path.rename(aside / path.name)
