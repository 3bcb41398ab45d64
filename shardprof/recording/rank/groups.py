"""Which process groups the job has, and which of them a collective ran in where the backend does not say.

NCCL writes the group into every event of a trace; gloo writes nothing, so while capturing each call that launches a
collective runs inside a range `shardprof::group <name>`. Calls from C++ (DDP's reducer) do not pass here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from shardprof.recording.rank.patches import watched
from shardprof.recording.rank.ranges import Range
from shardprof.trace.schema import ProcessGroup

LAUNCHING = (
    "_allgather_base", "_reduce_scatter_base", "all_gather_single", "all_gather_single_coalesced", "all_to_all_single",
    "allgather", "allgather_coalesced", "allgather_into_tensor_coalesced", "allreduce", "allreduce_coalesced",
    "alltoall", "alltoall_base", "barrier", "broadcast", "gather", "recv", "recv_anysource", "reduce", "reduce_scatter",
    "reduce_scatter_single", "reduce_scatter_single_coalesced", "reduce_scatter_tensor_coalesced", "scatter", "send",
)  # fmt: skip


def is_distributed() -> bool:
    """Has this process joined a process group?"""
    return dist.is_available() and dist.is_initialized()


def need_ranges() -> bool:
    """Do collectives travel by a backend that writes neither group nor sizes into the trace?"""
    return is_distributed() and not (uses_cuda() and "nccl" in str(dist.get_backend_config()))


def nccl_version() -> tuple[int, ...]:
    """Of the NCCL in this torch; empty where there is none."""
    if not (dist.is_available() and dist.is_nccl_available()):
        return ()
    nccl: Any = torch.cuda.nccl
    version = nccl.version()
    return version if isinstance(version, tuple) else ()


def uses_cuda() -> bool:
    """Has this process begun to use a GPU? Asking does not begin it."""
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized())


def captures_cuda_graph() -> bool:
    """Is a CUDA graph being captured on the current stream?"""
    return uses_cuda() and torch.cuda.is_current_stream_capturing()


def process_groups() -> tuple[ProcessGroup, ...]:
    """The groups that this process knows, with the names that traces use."""
    if not is_distributed():
        return ()
    configs = dist.distributed_c10d._get_all_pg_configs()
    return tuple(
        ProcessGroup(
            name=str(config["pg_name"]),
            description=str(config["pg_desc"]),
            backend=str(config["backend_config"]),
            ranks=tuple(config["ranks"]),
        )
        for config in configs
    )


class GroupRanges:
    """The ranges around collectives, while they are wanted and where the backend needs them."""

    def __init__(self) -> None:
        self._originals: dict[str, Any] = {}

    def install(self) -> None:
        """Put a range around every method that launches a collective."""
        if not need_ranges():
            return
        for name in LAUNCHING:
            # From the class's own dictionary: attribute access would give a function that no longer binds.
            if (original := vars(dist.ProcessGroup).get(name)) is not None:
                self._originals[name] = original
                function = getattr(dist.ProcessGroup, name)
                setattr(dist.ProcessGroup, name, watched(function, before=_group_begins, after=_group_ends))

    def remove(self) -> None:
        """Leave the class as it was."""
        while self._originals:
            name, original = self._originals.popitem()
            setattr(dist.ProcessGroup, name, original)


def _group_begins(group: Any, *_args: Any, **_kwargs: Any) -> Range:
    return Range(f"shardprof::group {_name(group)}")


def _group_ends(group_range: Range) -> None:
    group_range.close()


def _name(group: Any) -> str:
    try:
        return str(group.group_name)
    except RuntimeError:  # a group made without a name
        return "?"
