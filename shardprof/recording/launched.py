"""What the launcher has told this process by its environment: its rank, how many there are, which launch it is of.

torchrun, accelerate and deepspeed set RANK. mpirun and srun have their own variables, which count where there is
neither that nor a process group. Slurm's batch script is task 0 of a step that nobody asked for, with the job's
SLURM_NTASKS: only `srun` sets SLURM_STEP_NUM_TASKS.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.recording import identity

# Rank and number of ranks, by launcher: torchrun and its kin, Open MPI, MPICH and its kin, Slurm.
RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a process stands among those of its job."""

    rank: int
    world_size: int
    local_rank: int


def position() -> Position:
    """As the launcher says; rank 0 where none says anything."""
    local_rank = next((int(os.environ[name]) for name in LOCAL_RANKS if name in os.environ), 0)
    for rank, size in RANKS:
        if rank in os.environ and (size in os.environ or rank == "RANK"):
            return Position(int(os.environ[rank]), int(os.environ.get(size, "1")), local_rank)
    return Position(0, int(os.environ.get("WORLD_SIZE", "1")), local_rank)


def restarts() -> int:
    """How often this rank's part of an elastic job has failed and been started again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launches() -> tuple[str, ...]:
    """Names of the elastic job that started this process: a process that shares one with an earlier one, of the same
    rank, takes its position. Empty where nobody starts a rank again."""
    return tuple(_launches()) if "TORCHELASTIC_RESTART_COUNT" in os.environ else ()


def _launches() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield identity.of_process(os.getppid())
    if (run := os.environ.get("TORCHELASTIC_RUN_ID", "none")) != "none":  # the default of every torchrun
        yield run
