from typing import Any

import numpy as np
import numpy.typing as npt

ABSENT: int

class TraceFile:
    begin_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    name: npt.NDArray[np.uint32]
    category: npt.NDArray[np.uint32]
    thread: npt.NDArray[np.uint32]
    correlation: npt.NDArray[np.int64]
    external_id: npt.NDArray[np.int64]
    stream: npt.NDArray[np.int64]
    shape: npt.NDArray[np.uint32]
    detail_row: npt.NDArray[np.uint32]
    detail: npt.NDArray[np.uint32]
    detail_sequence: npt.NDArray[np.int64]
    details: list[str]
    names: list[str]
    categories: list[str]
    threads: list[str]
    metadata: list[tuple[str, str]]
    text_bytes: int
    lost_events: int
    first_lost_byte: int
    truncated: bool

def read_trace(
    descriptor: int,
    skip_categories: list[str],
    detail_name_prefixes: list[str],
    detail_mark: str,
    detail_arguments: list[str],
    detail_sequence: str,
    shape_arguments: list[str],
    max_text_bytes: int,
    max_events: int,
) -> TraceFile: ...
def nccl_format() -> dict[str, Any]: ...
def merge(intervals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
def intersect(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
def covered_ns(set: npt.NDArray[np.int64], windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
def partition_ns(classes: list[npt.NDArray[np.int64]], windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
