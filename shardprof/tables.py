"""What a run holds as Polars frames; `frames.Run` says what stands in each column."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import polars as pl

from shardprof.analysis.result import Rank, Step, Total
from shardprof.engine import ABSENT, UInt32s
from shardprof.trace.classes import CLASSES, COMM_KINDS
from shardprof.trace.collectives import UNKNOWN, Collective
from shardprof.trace.counters import Float64s
from shardprof.trace.importers.kineto import KinetoTrace
from shardprof.trace.nccl.matching import match
from shardprof.trace.nccl.operations import Operations
from shardprof.trace.nccl.ring import SENDS, Records, State
from shardprof.trace.run import RankTraces
from shardprof.trace.schema import StepRecord

T = TypeVar("T")

_WORDS = ("name", "category", "thread")
_OPTIONAL = ("stream", "correlation", "external_id")
_EVENT = ("rank", "name", "begin_rel_ns", "end_rel_ns", "base_ns", "category", "thread", *_OPTIONAL)

_STEP_NUMBERS = ("step", "begin_ns", "wall_ns", "busy_ns", "compute_ns", "comm_ns", "overlap_ns")
_RECORDED: dict[str, pl.DataType] = {
    **dict.fromkeys(("step", "begin_ns", "wall_ns"), pl.Int64()),
    **dict.fromkeys(("data_ns", "forward_ns", "backward_ns", "optimizer_ns"), pl.Int64()),
    **dict.fromkeys(("captured", "profiling"), pl.Boolean()),
    "hook_ns": pl.Int64(),
    "gc_ns": pl.Int64(),
}
_WAY: dict[str, pl.DataType] = {
    **dict.fromkeys(("algorithm", "protocol"), pl.String()), "channels": pl.Int64(), "transport": pl.String()
}  # fmt: skip
_NCCL_NUMBERS = (
    "group_size", "sequence", "payload_bytes", "wire_bytes", "called_ns", "enqueued_ns", "begin_ns", "end_ns",
    "channels",
)  # fmt: skip
_PROXY_NUMBERS = (
    "sequence", "channel", "peer", "steps", "chunk_bytes", "moved_bytes", "begin_ns", "end_ns", "gpu_wait_ns",
    "peer_wait_ns", "network_wait_ns",
)  # fmt: skip
_TOTALS = tuple(field.name for field in dataclasses.fields(Total))
_SHARES_OF_SPAN = ("busy", "idle", "compute", "comm", "exposed_comm")


def events(traces: Iterable[tuple[int, KinetoTrace]]) -> pl.DataFrame:
    """The events of traces with their ranks: the columns of the core as they are, a chunk a trace."""
    dtypes = {column: pl.Categorical(pl.Categories.random()) for column in _WORDS}
    frames = [_events(rank, trace, dtypes) for rank, trace in traces]
    if not frames:
        return pl.DataFrame(schema={name: dtypes.get(name, pl.Int64()) for name in _EVENT})
    return pl.concat(frames, rechunk=False)


def steps(ranks: Iterable[Rank]) -> pl.DataFrame:
    """The captured steps of ranks."""
    schema = {
        **{"rank": pl.Int64(), "host": pl.String()},
        **dict.fromkeys(_STEP_NUMBERS, pl.Int64()),
        **{_partition_column(name): pl.Int64() for name in CLASSES},
        "empty": pl.Boolean(),
    }
    rows = [_step(rank, step) for rank in ranks for step in rank.steps]
    counters = sorted({name for row in rows for name in row} - schema.keys())
    return _table(schema | dict.fromkeys(counters, pl.Float64()), rows)


def recorded_steps(ranks: Iterable[tuple[RankTraces, Mapping[str, Float64s]]]) -> pl.DataFrame:
    """Every step that was recorded of ranks, with what it met by counter."""
    schema = {"rank": pl.Int64(), "host": pl.String(), **_RECORDED}
    frames = [pl.DataFrame(schema=schema)]
    for rank, counters in ranks:
        rows = [_recorded_step(rank, step) for step in rank.steps]
        memory = sorted({name for row in rows for name in row} - schema.keys())
        frame = _table(schema | dict.fromkeys(memory, pl.Int64()), rows)
        columns = [pl.Series(name, values, nan_to_null=True) for name, values in sorted(_counters(counters).items())]
        frames.append(frame.with_columns(columns))
    return pl.concat(frames, how="diagonal")


def breakdown(ranks: Iterable[Rank]) -> pl.DataFrame:
    """The totals of ranks, with their shares."""
    schema = {
        **{"rank": pl.Int64(), "host": pl.String(), "device": pl.String()},
        **dict.fromkeys(_TOTALS, pl.Int64()),
    }
    rows = [
        {"rank": rank.rank, "host": rank.host, "device": rank.device}
        | (dataclasses.asdict(rank.total) if rank.total else {})
        for rank in ranks
    ]
    of_span = [_percent(f"{part}_ns", "span_ns").alias(f"{part}_pct") for part in _SHARES_OF_SPAN]
    return _table(schema, rows).with_columns(*of_span, overlap_pct=_percent("overlap_ns", "comm_ns"))


def collectives(ranks: Iterable[RankTraces]) -> pl.DataFrame:
    """The collectives of ranks' traces, one by one."""
    schema = {
        **{"rank": pl.Int64(), "kind": pl.String(), "group": pl.String()},
        **dict.fromkeys(("group_size", "launched_ns", "begin_ns", "end_ns", "payload_bytes", "wire_bytes"), pl.Int64()),
        **_WAY,
    }
    rows = [row for rank in ranks for row in _collectives(rank)]
    return _table(schema, rows)


def nccl(ranks: Iterable[RankTraces]) -> pl.DataFrame:
    """What NCCL itself told on ranks, one operation a row."""
    schema = {
        **{"rank": pl.Int64(), **dict.fromkeys(("kind", "function", "group", "communicator"), pl.String())},
        **dict.fromkeys(_NCCL_NUMBERS, pl.Int64()),
        **{name: kind for name, kind in _WAY.items() if name not in _NCCL_NUMBERS},
        **dict.fromkeys(("algbw_gbps", "busbw_gbps"), pl.Float64()),
    }
    frames = [_nccl(rank.rank, told.operations) for rank in ranks if (told := rank.nccl())]
    return pl.concat([pl.DataFrame(schema=schema), *(frame.select(list(schema)) for frame in frames)])


def nccl_proxies(ranks: Iterable[RankTraces]) -> pl.DataFrame:
    """What NCCL's proxy threads did on ranks, a row a channel of an operation."""
    schema = {
        **{"rank": pl.Int64(), "function": pl.String(), "communicator": pl.String(), "sends": pl.Boolean()},
        **dict.fromkeys(_PROXY_NUMBERS, pl.Int64()),
    }
    frames = [_proxies(rank.rank, *told) for rank in ranks if (told := rank.nccl_proxies())]
    return pl.concat([pl.DataFrame(schema=schema), *(frame.select(list(schema)) for frame in frames)])


def _proxies(rank: int, records: Records, state: State) -> pl.DataFrame:
    hashes = {place: f"{told['hash']:#x}" for place, told in state.communicators.items()}
    return pl.DataFrame(
        {
            "function": pl.Series([state.strings[i] or None for i in records["function"].tolist()], dtype=pl.String()),
            "communicator": pl.Series(map(hashes.get, records["communicator"].tolist()), dtype=pl.String()),
            "sends": (records["flags"] & SENDS) != 0,
            **{name: records[name].astype(np.int64) for name in _PROXY_NUMBERS},
        }
    ).with_columns(pl.lit(rank, dtype=pl.Int64()).alias("rank"))


def _events(rank: int, trace: KinetoTrace, dtypes: Mapping[str, pl.Categorical]) -> pl.DataFrame:
    columns = trace.events
    frame = pl.DataFrame(
        {
            "begin_rel_ns": columns.begin_ns,
            "end_rel_ns": columns.end_ns,
            "name": _categorical(columns.name, columns.names, dtypes["name"]),
            "category": _categorical(columns.category, columns.categories, dtypes["category"]),
            "thread": _categorical(columns.thread, columns.threads, dtypes["thread"]),
            "stream": columns.stream,
            "correlation": columns.correlation,
            "external_id": columns.external_id,
        }
    )
    optional = pl.col(*_OPTIONAL)
    return frame.with_columns(
        _constant("rank", rank),
        _constant("base_ns", trace.base_ns),
        pl.when(optional != ABSENT).then(optional),  # a bitmap beside the values, which stay where they are
    ).select(_EVENT)


def _constant(name: str, value: int) -> pl.Expr:
    """A column that is one value in every row, and takes the memory of one; null where that is no 64-bit number."""
    return pl.lit(pl.Series([value], dtype=pl.Int64, strict=False).item(), dtype=pl.Int64).alias(name)


def _categorical(ids: UInt32s, words: Sequence[str], dtype: pl.Categorical) -> pl.Series:
    """The words that `ids` stand for. The ids are the codes as they are, if the words are new and all different."""
    known = pl.Series(map(_valid_text, words), dtype=dtype)
    codes = known.to_physical().to_numpy()
    are_codes = np.array_equal(codes, np.arange(len(codes)))
    return pl.Series(ids if are_codes else codes[ids]).cat.to(dtype)


def _step(rank: Rank, step: Step) -> dict[str, Any]:
    numbers = {name: getattr(step, name) for name in _STEP_NUMBERS}
    partition = {_partition_column(name): step.partition_ns[name] for name in CLASSES}
    return {"rank": rank.rank, "host": rank.host, **numbers, **partition, "empty": step.empty} | _counters(
        step.counters
    )


def _recorded_step(rank: RankTraces, step: StepRecord) -> dict[str, Any]:
    told = {name: getattr(step, name) for name in _RECORDED if name != "wall_ns"}
    memory = {f"cuda_{name}": value for name, value in step.cuda_memory.items()}
    return {"rank": rank.rank, "host": rank.host, **told, "wall_ns": step.end_ns - step.begin_ns, **memory}


def _counters(values: Mapping[str, T]) -> dict[str, T]:
    return {f"counter_{name}": value for name, value in values.items()}


def _partition_column(name: str) -> str:
    return f"partition_{name}_ns"


def _percent(part: str, whole: str) -> pl.Expr:
    """The share of a whole, null where there is nothing of it."""
    return pl.when(pl.col(whole) != 0).then(100 * pl.col(part) / pl.col(whole))


def _collectives(rank: RankTraces) -> Iterator[dict[str, Any]]:
    """Those of a rank's traces, with the way that NCCL told of them."""
    told = rank.nccl()
    for trace in rank.traces:
        if trace.activities is None:
            continue
        kernels = trace.activities.collectives
        operations = match(told.operations, kernels, trace.base_ns).tolist() if told else [UNKNOWN] * len(kernels)
        for collective, row in zip(kernels, operations, strict=True):
            way = _way(told.operations, row) if told and row != UNKNOWN else {}
            yield _collective(rank.rank, collective, trace.base_ns) | way


def _way(operations: Operations, row: int) -> dict[str, Any]:
    """How NCCL ran one of its operations."""
    place, channels = int(operations.communicator[row]), int(operations.channels[row])
    return {
        "algorithm": operations.words[int(operations.algorithm[row])] or None,
        "protocol": operations.words[int(operations.protocol[row])] or None,
        "channels": None if channels == UNKNOWN else channels,
        "transport": operations.communicators[place].transport if place != UNKNOWN else None,
    }


def _nccl(rank: int, operations: Operations) -> pl.DataFrame:
    """A rank's operations; what is UNKNOWN is null."""
    numbers = {name: getattr(operations, name) for name in _NCCL_NUMBERS if name != "group_size"}
    frame = pl.DataFrame({name: pl.Series(values) for name, values in numbers.items()})
    frame = frame.with_columns(pl.when(pl.all() != UNKNOWN).then(pl.all()))
    known = [*operations.communicators, None]  # UNKNOWN is the last
    texts: dict[str, list[str | None]] = {
        "kind": [COMM_KINDS[kind] for kind in operations.kind.tolist()],
        **{
            name: [operations.words[word] or None for word in getattr(operations, name).tolist()]
            for name in ("function", "algorithm", "protocol")
        },
    }
    of_each = [known[place] for place in operations.communicator.tolist()]
    frame = frame.with_columns(
        *(pl.Series(name, values, dtype=pl.String()) for name, values in texts.items()),
        pl.Series("group", [c and (c.description or c.group) for c in of_each], dtype=pl.String()),
        pl.Series("communicator", [f"{c.hash:#x}" if c and c.hash else None for c in of_each], dtype=pl.String()),
        pl.Series("transport", [c and c.transport for c in of_each], dtype=pl.String()),
        pl.Series("group_size", [c and c.ranks for c in of_each], dtype=pl.Int64()),
        pl.lit(rank, dtype=pl.Int64()).alias("rank"),
    )
    lasted = pl.col("end_ns") - pl.col("begin_ns")
    return frame.with_columns(
        algbw_gbps=pl.when(lasted > 0).then(pl.col("payload_bytes") / lasted),
        busbw_gbps=pl.when(lasted > 0).then(pl.col("wire_bytes") / lasted),
    )


def _collective(rank: int, collective: Collective, base_ns: int) -> dict[str, Any]:
    group = collective.group
    return {
        "rank": rank,
        "kind": collective.kind,
        "group": group.description if group else None,
        "group_size": group.size if group else None,
        "launched_ns": base_ns + collective.launched_ns,
        "begin_ns": base_ns + collective.begin_ns,
        "end_ns": base_ns + collective.end_ns,
        "payload_bytes": collective.payload_bytes,
        "wire_bytes": collective.wire_bytes,
    }


def _table(schema: Mapping[str, pl.DataType], rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a frame; a value that its column cannot hold, or that a row has not, is null."""
    columns = {name: [_valid(row.get(name)) for row in rows] for name in schema}
    return pl.DataFrame(columns, schema=schema, strict=False)


def _valid(value: object) -> object:
    return _valid_text(value) if isinstance(value, str) else value


def _valid_text(text: str) -> str:
    """Text without the halves of surrogate pairs that JSON's escapes can spell and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
