"""The compiled core, seen from Python: traces as columns, sets of time, exact sums. The only importer of `_native`.

Times are int64 nanoseconds. A set of time is an `Intervals` array of shape (n, 2): begin_ns, end_ns of half-open
intervals. "Merged" means sorted, without empty, overlapping or touching intervals, as `merge` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardprof import _native
from shardprof._native import TraceFile
from shardprof.errors import UnreadableTraceError

__all__ = [
    "ABSENT",
    "NCCL_PLUGIN",
    "NOTHING",
    "Int64s",
    "Intervals",
    "TraceFile",
    "UInt32s",
    "covered_ns",
    "intersect",
    "length_ns",
    "merge",
    "nccl_format",
    "partition_ns",
    "read_trace",
    "union",
]

Intervals = npt.NDArray[np.int64]
Int64s = npt.NDArray[np.int64]
UInt32s = npt.NDArray[np.uint32]

ABSENT: int = _native.ABSENT
"""Stands in `correlation`, `external_id`, `stream` and `detail_sequence` where an event does not have it."""

NCCL_PLUGIN = Path(_native.__file__).with_name("libshardprof_nccl.so")
"""NCCL's profiler plugin, built with the core."""

NOTHING: Intervals = np.empty((0, 2), dtype=np.int64)


def nccl_format() -> dict[str, Any]:
    """Where what lies in a file that the NCCL plugin writes, as native/include/shardprof/format.h says: sizes and
    offsets by name, and for each kind of part a list of its fields (name, NumPy type, offset)."""
    return _native.nccl_format()


def read_trace(
    descriptor: int,
    name: str,
    *,
    skip_categories: Sequence[str],
    detail_name_prefixes: Sequence[str],
    detail_mark: str,
    detail_arguments: Sequence[str],
    detail_sequence: str,
    shape_arguments: Sequence[str],
    max_text_bytes: int | None = None,
    max_events: int = 2**63,
) -> TraceFile:
    """The events with a duration of a Kineto Chrome trace (plain, gzip or zstd), as columns in the order of the file.

    `descriptor` may be a pipe; `name` is for error messages. Events of `skip_categories` cost no memory. Of events
    whose name begins with one of `detail_name_prefixes`, or that have the argument `detail_mark`, the
    `detail_arguments` are kept, each different JSON object of them once, and the integer `detail_sequence`, which
    differs from event to event. `shape` is a hash of the text of whichever of `shape_arguments` an event has, 0 where
    it has none. What is damaged is mended, or left out and counted. Raises OSError where reading fails;
    UnreadableTraceError for what is no trace at all, for more text than `max_text_bytes` (None: than any honest trace
    has) and for more than `max_events`.
    """
    options = (
        list(skip_categories),
        list(detail_name_prefixes),
        detail_mark,
        list(detail_arguments),
        detail_sequence,
        list(shape_arguments),
        max_text_bytes or 0,
        max_events,
    )
    try:
        return _native.read_trace(descriptor, *options)
    except OverflowError as error:
        raise UnreadableTraceError(f"{name}: {error}", "if it is a trace, allow more: --max-size 100G") from error
    except MemoryError as error:
        raise UnreadableTraceError(f"{name}: {error or 'the memory is full'}", "allow more: --memory 32G") from error
    except ValueError as error:
        raise UnreadableTraceError(
            f"{name} is not readable as a trace: {error}",
            "a trace is a Chrome trace of torch.profiler (.json, .json.gz or .json.zst), or a folder of them",
        ) from error


def merge(intervals: Intervals) -> Intervals:
    """The union of intervals in any order, merged."""
    return _native.merge(np.ascontiguousarray(intervals))


def union(*sets: Intervals) -> Intervals:
    """The time in any of the sets, merged."""
    return merge(np.concatenate(sets)) if sets else NOTHING


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """The time in both merged sets, merged."""
    return _native.intersect(a, b)


def length_ns(merged: Intervals) -> int:
    """How much time a merged set holds."""
    return int((merged[:, 1] - merged[:, 0]).sum())


def covered_ns(merged: Intervals, windows: Intervals) -> Int64s:
    """How much of each window a merged set covers, shape (windows,)."""
    return _native.covered_ns(merged, np.ascontiguousarray(windows))


def holding(windows: Intervals, times_ns: Int64s) -> Int64s:
    """Which window each time lies in, -1 for none; the windows are in order and do not overlap."""
    if not len(windows):
        return np.full(len(times_ns), -1, dtype=np.int64)
    position = np.searchsorted(windows[:, 0], times_ns, side="right") - 1
    return np.where((position >= 0) & (times_ns < windows[position, 1]), position, -1)


def partition_ns(classes: Sequence[Intervals], windows: Intervals) -> Int64s:
    """What each window's time went to: the first merged class that covers it, shape (windows, classes + 1).

    The last column is the time that no class covers; a row sums to its window's length, exactly.
    """
    return _native.partition_ns(list(classes), np.ascontiguousarray(windows))
