"""Which rank is this process, and is it the first to say so? One file per rank and attempt decides."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from shardprof.recording import identity, launched
from shardprof.recording.launched import Position
from shardprof.recording.rank import groups
from shardprof.trace.schema import RankRecord, RunFolder, read_whole, to_json


class RankTakenError(Exception):
    """Another process of the job has the rank; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The process that took a rank. `process` and `launches` tell whether another one may take its position."""

    host: str
    pid: int
    process: str
    restarts: int
    launches: tuple[str, ...]

    def may_succeed(self, earlier: Claim) -> bool:
        """An elastic job starts a rank again, here or on another node: the earlier process is no more.

        On nodes where no rank has failed the number of restarts stays as it is.
        """
        is_again = self.restarts > earlier.restarts or not set(self.launches).isdisjoint(earlier.launches)
        return is_again and not identity.is_alive(earlier.process)


def claim(config: dict[str, Any]) -> tuple[Path, RankRecord]:
    """The folder and the first record of this process's rank. Raises RankTakenError."""
    position = _position()
    host = host_of(config)
    folder = RunFolder(Path(config["run"])).rank(position.rank)
    folder.mkdir(parents=True, exist_ok=True)
    if attempt := _take(folder, _own_claim(host)):
        _put_aside(folder, f"attempt-{attempt - 1}")
    record = RankRecord(
        rank=position.rank,
        world_size=position.world_size,
        local_rank=position.local_rank,
        host=host,
        pid=os.getpid(),
        device=device(),
        started_ns=time.time_ns(),
        versions=versions(),
    )
    return folder, record


def host_of(config: dict[str, Any]) -> str:
    """What this node is called: where it has no recorder by its hostname, unless the recorder's node is called so."""
    recorders_host: str = config["host"]
    if identity.of_node() == config["node"]:
        return recorders_host
    hostname = identity.hostname()
    return f"{hostname}-other" if hostname == recorders_host else hostname


def world_size() -> int:
    """How many ranks the job has."""
    return _position().world_size


def device() -> str:
    """What the rank computes on, as far as it has begun to."""
    return "cuda" if groups.uses_cuda() else "cpu"


def device_uuid() -> str | None:
    """The GPU that this process computes on, as NVML writes it. None without one, with ROCm and with an older torch."""
    if not groups.uses_cuda() or torch.version.cuda is None:
        return None
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


def versions() -> dict[str, str]:
    """The versions that explain differences between runs; only of what the script itself has imported."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("deepspeed", "transformers", "accelerate"):
        if version := getattr(sys.modules.get(name), "__version__", None):
            found[name] = str(version)
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def _position() -> Position:
    """RANK goes before the process group, the process group before what other launchers say."""
    position = launched.position()
    if not groups.is_distributed():
        return position
    rank = position.rank if "RANK" in os.environ else dist.get_rank()
    return Position(rank, dist.get_world_size(), position.local_rank)


def _own_claim(host: str) -> Claim:
    return Claim(
        host=host,
        pid=os.getpid(),
        process=identity.of_process(os.getpid()),
        restarts=launched.restarts(),
        launches=launched.launches(),
    )


def _take(folder: Path, own: Claim) -> int:
    """Which attempt of the rank this is, now that it is ours; the attempts before have a file each."""
    attempt = len(list(folder.glob("claim.*")))
    earlier = _read(folder / f"claim.{attempt - 1}") if attempt else None
    if attempt and not (earlier and own.may_succeed(earlier)):
        raise _taken(folder, earlier)
    try:
        descriptor = os.open(folder / f"claim.{attempt}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise _taken(folder, _read(folder / f"claim.{attempt}")) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(to_json(own))
    return attempt


def _read(path: Path) -> Claim | None:
    try:
        return read_whole(Claim, path)
    except (OSError, ValueError, TypeError):
        return None  # being written at this moment


def _taken(folder: Path, owner: Claim | None) -> RankTakenError:
    who = f"{owner.host} {owner.pid}" if owner else "host and pid unknown"
    return RankTakenError(f"rank {int(folder.name)} is another process's ({who})")


def _put_aside(folder: Path, name: str) -> None:
    """What the attempt before the restart left makes room for this one's files."""
    aside = folder / name
    aside.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("claim."):
            path.rename(aside / path.name)
