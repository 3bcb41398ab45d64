"""The words for what time goes to, and how much a collective puts on the wire. Shared by reading and rendering."""

from __future__ import annotations

COMM_KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "p2p", "other_comm")

CLASSES = ("compute", *COMM_KINDS, "memcpy", "memset", "data_loading", "launch_bound", "idle")
"""The classes of a step's partition, in order of precedence: a nanosecond belongs to the first that covers it."""

# In order: the first fragment found in a collective's name, lower-cased and without underscores, decides.
_KIND_FRAGMENTS = (
    ("reducescatter", "reduce_scatter"),
    ("allgather", "all_gather"),
    ("allreduce", "all_reduce"),
    ("crossdevicereduce", "all_reduce"),
    ("alltoall", "all_to_all"),
    ("broadcast", "broadcast"),
    ("send", "p2p"),
    ("recv", "p2p"),
    ("pointtopoint", "p2p"),
)


def comm_kind(name: str) -> str:
    """The kind of communication that a collective's, operator's or kernel's name tells; "other_comm" if none."""
    plain = name.lower().replace("_", "")
    return next((kind for fragment, kind in _KIND_FRAGMENTS if fragment in plain), "other_comm")


def wire_factor(kind: str, group_size: int) -> float:
    """Bytes that each rank sends for a byte of payload; the bus bandwidth factor of nccl-tests' PERFORMANCE.md.

    Payload is the output of an all-gather, the input of a reduce-scatter, the buffer of an all-reduce.
    """
    if kind == "all_reduce":
        return 2 * (group_size - 1) / group_size
    if kind in ("all_gather", "reduce_scatter", "all_to_all"):
        return (group_size - 1) / group_size
    return 1.0 if group_size > 1 else 0.0
