"""Kineto's Chrome trace, as torch.profiler, torchtitan and dynolog write it: one file, one process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardprof import engine
from shardprof.engine import Intervals, TraceFile
from shardprof.errors import UnreadableTraceError
from shardprof.trace.activities import Activities
from shardprof.trace.cpu_activities import TENSOR_ARGUMENTS, cpu_activities
from shardprof.trace.device_doubts import without_lost_timestamps
from shardprof.trace.events import Events
from shardprof.trace.file_doubts import content_doubts, damage_doubts
from shardprof.trace.files import Place, opened, pure_path, told_name
from shardprof.trace.gpu_activities import gpu_activities
from shardprof.trace.gpu_collectives import COLLECTIVE_ARGUMENTS, COLLECTIVE_NAME, COLLECTIVE_SEQUENCE
from shardprof.trace.groups import GroupTable, distributed_info
from shardprof.trace.launches import DEVICE_CATEGORIES
from shardprof.trace.quality import Quality
from shardprof.trace.rank_of_file import rank_of_file
from shardprof.trace.reading import USUAL_READING, Reading
from shardprof.trace.schema import TIMELINE_MARK

# Before 2022 Kineto named its categories in other words.
_CATEGORY_TODAY = {
    "Operator": "cpu_op",
    "Kernel": "kernel",
    "Memcpy": "gpu_memcpy",
    "Memset": "gpu_memset",
    "Runtime": "cuda_runtime",
}
_UNUSED_CATEGORIES = ("python_function", "Trace", "ac2g")
_SHAPE_ARGUMENTS = ("grid", "Input Dims")
_COMM_NAME_PREFIXES = ("c10d::", "gloo:", "nccl:", "record_param_comms")

DATALOADER_RANGE = re.compile(r"enumerate\((DataLoader|DataPipe)\)#.*__next__")
PROFILER_STEP = re.compile(r"ProfilerStep\s*#\s*(\d{1,18})")

_NOT_AVAILABLE = re.compile(r"([:,\[]\s*)N/A(?=\s*[,}\]])")
_DAMAGED = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedStep:
    """A step as a trace names it."""

    number: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KinetoTrace:
    """One trace file, read: its events, what the processors did, and what is doubtful about it.

    `rank` is None where neither the trace nor its name tells it; `main_thread` is the thread that trains, an index
    into `events.threads`, None where no event tells. Its times are relative to `base_ns` since the epoch. `role` is the
    rank's place in the job ("DP 0, PP 3") and `marked_steps` are its steps, where the file tells them outright.
    """

    path: Place
    rank: int | None
    metadata: dict[str, Any]
    base_ns: int
    events: Events
    main_thread: int | None
    activities: Activities | None
    quality: tuple[Quality, ...]
    role: str | None = None
    marked_steps: tuple[MarkedStep, ...] = ()

    @property
    def distributed_info(self) -> dict[str, Any]:
        """The header's `distributedInfo`, empty where there is none."""
        return distributed_info(self.metadata)


def read_kineto(file: Place, how: Reading = USUAL_READING) -> KinetoTrace:
    """The trace in `file`. Raises UnreadableTraceError for what is none."""
    columns = _columns(file, how)
    metadata = _metadata(columns)
    if TIMELINE_MARK in metadata:
        hint = "name the run or the traces that it was made of; `shardprof open` shows it"
        raise UnreadableTraceError(f"{file} is a timeline that shardprof made", hint)
    events, timeless = without_lost_timestamps(_events(columns), told_name(file))
    main_thread = _main_thread(events)
    activities = _activities(events, metadata, main_thread)
    return KinetoTrace(
        path=file,
        rank=rank_of_file(metadata, pure_path(file), how.rank_regex),
        metadata=metadata,
        base_ns=_base_ns(metadata),
        events=events,
        main_thread=main_thread,
        activities=activities,
        quality=(
            *damage_doubts(columns, told_name(file)),
            *timeless,
            *content_doubts(events, metadata, activities, told_name(file)),
        ),
    )


def _columns(file: Place, how: Reading) -> TraceFile:
    try:
        with opened(file) as descriptor:
            return engine.read_trace(
                descriptor,
                str(file),
                skip_categories=_UNUSED_CATEGORIES,
                detail_name_prefixes=_COMM_NAME_PREFIXES,
                detail_mark=COLLECTIVE_NAME,
                detail_arguments=(*COLLECTIVE_ARGUMENTS, *TENSOR_ARGUMENTS),
                detail_sequence=COLLECTIVE_SEQUENCE,
                shape_arguments=_SHAPE_ARGUMENTS,
                max_text_bytes=how.max_text_bytes,
                max_events=how.max_events(),
            )
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableTraceError(
            f"{file} cannot be read: {reason}", "look at the file and its permissions"
        ) from error


def _metadata(columns: TraceFile) -> dict[str, Any]:
    """The members around the events; of a key that comes twice, the last counts, and a damaged value costs itself."""
    return {_unescaped(key): value for key, text in columns.metadata if (value := _value(text)) is not _DAMAGED}


def _base_ns(metadata: dict[str, Any]) -> int:
    base = metadata.get("baseTimeNanoseconds")
    return base if isinstance(base, int) else 0


def _events(columns: TraceFile) -> Events:
    return Events(
        begin_ns=columns.begin_ns,
        end_ns=columns.end_ns,
        name=columns.name,
        category=columns.category,
        thread=columns.thread,
        correlation=columns.correlation,
        external_id=columns.external_id,
        stream=columns.stream,
        shape=columns.shape,
        names=tuple(_unescaped(name) for name in columns.names),
        categories=tuple(_CATEGORY_TODAY.get(category, category) for category in columns.categories),
        threads=tuple(columns.threads),
        detail_row=columns.detail_row,
        detail=columns.detail,
        detail_sequence=columns.detail_sequence,
        details=tuple(_object(text) for text in columns.details),
    )


def _unescaped(raw: str) -> str:
    if "\\" not in raw:
        return raw
    try:
        return str(json.loads(f'"{raw}"', strict=False))
    except ValueError:
        return raw


def _object(text: str) -> dict[str, Any]:
    value = _value(text)
    return value if isinstance(value, dict) else {}


def _value(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_NOT_AVAILABLE.sub(r"\1null", text), strict=False)
    except (ValueError, RecursionError):
        return _DAMAGED


def _main_thread(events: Events) -> int | None:
    """The thread of the step marks, else of the DataLoader, else the one with the most operators."""
    for rows in (events.named(PROFILER_STEP.match) & ~events.in_categories("gpu_user_annotation"),
                 events.named(DATALOADER_RANGE.match), events.in_categories("cpu_op")):  # fmt: skip
        if rows.any():
            return int(np.bincount(events.thread[rows]).argmax())
    return None


def _activities(events: Events, metadata: dict[str, Any], main_thread: int | None) -> Activities | None:
    groups = GroupTable(distributed_info(metadata))
    if events.in_categories(*DEVICE_CATEGORIES).any():
        return gpu_activities(events, groups, _data_loading(events, main_thread))
    if events.in_categories("cpu_op").any():
        return cpu_activities(events, groups, _data_loading(events, main_thread), main_thread)
    return None


def _data_loading(events: Events, main_thread: int | None) -> Intervals:
    rows = events.named(DATALOADER_RANGE.match) & ~events.in_categories("gpu_user_annotation")
    return engine.merge(events.intervals(rows & (events.thread == main_thread)))
