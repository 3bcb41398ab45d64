"""The words for what time goes to, and how much a collective puts on the wire. Shared by reading and rendering."""

from __future__ import annotations

OTHER_COMM = "other_comm"
COMM_KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "p2p", OTHER_COMM)

CLASSES = ("compute", *COMM_KINDS, "memcpy", "memset", "data_loading", "launch_bound", "idle")
"""The classes of a step's partition, in order of precedence: a nanosecond belongs to the first that covers it."""

_NAMES = {
    "p2p": "point-to-point",
    "other_comm": "other communication",
    "memcpy": "memory copies",
    "memset": "memory sets",
    "data_loading": "data loading",
}

# In order: the first fragment found in a collective's name, lower-cased and without underscores, decides. A barrier is
# first, since NCCL's is an "all_reduce_barrier".
_KIND_FRAGMENTS = (
    ("barrier", OTHER_COMM),
    ("reducescatter", "reduce_scatter"),
    ("allgather", "all_gather"),
    ("allreduce", "all_reduce"),
    ("alltoall", "all_to_all"),
    ("all2all", "all_to_all"),
    ("broadcast", "broadcast"),
    ("bcast", "broadcast"),
    ("send", "p2p"),
    ("recv", "p2p"),
    ("pointtopoint", "p2p"),
    ("reduce", OTHER_COMM),
    ("gather", OTHER_COMM),
    ("scatter", OTHER_COMM),
)


def class_name(name: str) -> str:
    """The words for a class of the partition or for a group of classes: "all-gather", "data loading"."""
    return _NAMES.get(name, name.replace("_", "-"))


def named_kind(name: str) -> str | None:
    """The kind of communication that a collective's, operator's or kernel's name tells; None if it names none."""
    plain = name.lower().replace("_", "")
    return next((kind for fragment, kind in _KIND_FRAGMENTS if fragment in plain), None)


def comm_kind(name: str) -> str:
    """The kind of communication of what is known to communicate; "other_comm" if its name does not tell."""
    return named_kind(name) or OTHER_COMM


def wire_factor(kind: str, group_size: int) -> float:
    """Bytes that each rank sends for a byte of payload; the bus bandwidth factor of nccl-tests' PERFORMANCE.md.

    Payload is the output of an all-gather, the input of a reduce-scatter, the buffer of an all-reduce.
    """
    if kind == "all_reduce":
        return 2 * (group_size - 1) / group_size
    if kind in ("all_gather", "reduce_scatter", "all_to_all"):
        return (group_size - 1) / group_size
    return 1.0 if group_size > 1 else 0.0
