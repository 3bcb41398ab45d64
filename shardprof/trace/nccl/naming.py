"""Which of torch's process groups an NCCL communicator is, as far as one rank can tell.

NCCL knows no names under torch: what a communicator and a group have in common on one rank are how many ranks they have
and which of them this one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shardprof.trace.nccl.operations import Communicator
from shardprof.trace.schema import ProcessGroup


def named(communicators: Sequence[Communicator], rank: int, groups: Sequence[ProcessGroup]) -> tuple[Communicator, ...]:
    """The communicators of a rank with the names of their groups, where just one of the job's `groups` fits."""
    return tuple(_named(communicator, rank, groups) for communicator in communicators)


def _named(communicator: Communicator, rank: int, groups: Sequence[ProcessGroup]) -> Communicator:
    fitting = [group for group in groups if _fits(communicator, rank, group)]
    if communicator.group or len(fitting) != 1:
        return communicator
    return replace(communicator, group=fitting[0].name, description=fitting[0].description)


def _fits(communicator: Communicator, rank: int, group: ProcessGroup) -> bool:
    if "nccl" not in group.backend or communicator.ranks != len(group.ranks) or rank not in group.ranks:
        return False
    return communicator.rank is None or group.ranks.index(rank) == communicator.rank


def title(communicator: Communicator) -> str:
    """What to call it: its group, else how many ranks it has, with the hash that it has on all of them."""
    told = communicator.description or communicator.group or communicator.name
    size = "" if communicator.ranks is None else f"{communicator.ranks} ranks"
    hashed = "" if communicator.hash is None else f"{communicator.hash:#x}"
    return " · ".join(part for part in (told, size, hashed) if part)
