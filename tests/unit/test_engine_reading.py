"""The engine's reader against `json` and `decimal` on generated traces: the same rows, plain and compressed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shardprof import engine
from shardprof.errors import UnreadableTraceError

DETAILS = ("Collective name", "Input Dims")
OPTIONS: dict[str, Any] = {
    "skip_categories": ("python_function",),
    "detail_name_prefixes": ("c10d::", "gloo:"),
    "detail_mark": "Collective name",
    "detail_arguments": DETAILS,
    "detail_sequence": "Seq",
    "shape_arguments": ["grid", "Input Dims"],
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.ZstdCompressor(1).compress,
}
MAX_NS = 2**62 - 1


def read_file(path: Path, **options: Any) -> engine.TraceFile:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return engine.read_trace(descriptor, str(path), **OPTIONS, **options)
    finally:
        os.close(descriptor)


def read(text: str | bytes, *, packing: str = "plain") -> engine.TraceFile:
    data = text.encode() if isinstance(text, str) else text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(PACK[packing](data))
        return read_file(path)


def metadata_of(trace: engine.TraceFile) -> dict[str, Any]:
    return {unescaped(key): json.loads(text) for key, text in trace.metadata}


def plain_reader(text: str) -> list[tuple[Any, ...]]:
    """What the reader should give: a row an event with a duration, times from their decimal text."""
    rows = []
    for event in json.loads(text, parse_float=str, parse_int=str)["traceEvents"]:
        if event.get("ph") != "X" or event.get("cat") == "python_function":
            continue
        begin_ns = nanoseconds(event["ts"])
        args = event.get("args", {})
        name = event.get("name", "")
        wanted = "args" in event and (name.startswith(("c10d::", "gloo:")) or "Collective name" in args)
        details = {key: value for key, value in args.items() if key in DETAILS}
        rows.append(
            (
                begin_ns,
                begin_ns + nanoseconds(event.get("dur", "0")),
                name,
                event.get("cat", ""),
                f"{event.get('pid', '')}/{event.get('tid', '')}",
                *(int(args.get(key, engine.ABSENT)) for key in ("correlation", "External id", "stream")),
                details if wanted else None,
            )
        )
    return rows


def engine_rows(trace: engine.TraceFile) -> list[tuple[Any, ...]]:
    details = {
        row: json.loads(trace.details[detail], parse_float=str, parse_int=str)
        for row, detail in zip(trace.detail_row.tolist(), trace.detail.tolist(), strict=True)
    }
    columns = (trace.begin_ns, trace.end_ns, trace.name, trace.category, trace.thread)
    more = (trace.correlation, trace.external_id, trace.stream)
    rows = zip(*(column.tolist() for column in (*columns, *more)), strict=True)
    return [
        (begin, end, unescaped(trace.names[name]), unescaped(trace.categories[cat]), unescaped(trace.threads[thread]),
         *numbers, details.get(row))
        for row, (begin, end, name, cat, thread, *numbers) in enumerate(rows)
    ]  # fmt: skip


def unescaped(raw: str) -> str:
    return str(json.loads(f'"{raw}"'))


def nanoseconds(microseconds: str) -> int:
    return int((Decimal(microseconds) * 1000).to_integral_value(rounding=ROUND_DOWN))


WORDS = st.text(max_size=8)
TIMES = st.decimals(min_value=0, max_value=10**15, places=4).map(lambda time: f"{time:f}")
NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
ARGUMENTS = st.dictionaries(
    WORDS | st.sampled_from(["Collective name", "Input Dims"]),
    st.recursive(SCALARS, st.lists, max_leaves=6),
    max_size=3,
)
IDENTIFIERS = st.dictionaries(st.sampled_from(["correlation", "External id", "stream"]), NUMBERS)
EVENTS = st.fixed_dictionaries(
    {"ph": st.sampled_from(["X", "X", "M", "i"]), "ts": TIMES},
    optional={
        "name": WORDS | WORDS.map("c10d::{}".format) | WORDS.map("gloo:{}".format),
        "cat": st.sampled_from(["kernel", "cpu_op", "python_function", "ß"]),
        "pid": st.integers(0, 9) | WORDS,
        "tid": st.integers(0, 9) | WORDS,
        "dur": TIMES,
        "args": st.builds(lambda more, ids: more | ids, ARGUMENTS, IDENTIFIERS),
        "id": NUMBERS,
    },
).flatmap(lambda event: st.permutations(list(event.items())).map(dict))


def to_text(events: list[dict[str, Any]], header: dict[str, Any], trailer: dict[str, Any], gap: str) -> str:
    """The trace as JSON, with times as they are written and not as floats."""
    rows = [_object({key: _plain(key, value) for key, value in event.items()}, gap) for event in events]
    members = {**_encoded(header), "traceEvents": f"[{gap}{(',' + gap).join(rows)}{gap}]", **_encoded(trailer)}
    return _object(members, gap)


def _plain(key: str, value: Any) -> str:
    return str(value) if key in ("ts", "dur") else json.dumps(value, ensure_ascii=False)


def _encoded(members: dict[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in members.items()}


def _object(members: dict[str, str], gap: str) -> str:
    return "{" + gap + ("," + gap).join(f"{json.dumps(key)}:{gap}{value}" for key, value in members.items()) + "}"


METADATA = st.dictionaries(WORDS.filter(lambda key: key != "traceEvents"), ARGUMENTS | SCALARS, max_size=3)


@pytest.mark.parametrize("packing", PACK)
@given(events=st.lists(EVENTS, max_size=6), header=METADATA, trailer=METADATA, gap=st.sampled_from(["", " ", "\n \t"]))
def test_reads_what_json_reads(
    *, packing: str, events: list[dict[str, Any]], header: dict[str, Any], trailer: dict[str, Any], gap: str
) -> None:
    text = to_text(events, header, trailer, gap)
    trace = read(text, packing=packing)
    assert engine_rows(trace) == plain_reader(text)
    assert metadata_of(trace) == {key: value for key, value in json.loads(text).items() if key != "traceEvents"}
    assert (trace.lost_events, trace.truncated) == (0, False)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_times_are_exact(written: str) -> None:
    trace = read(f'{{"traceEvents": [{{"ph": "X", "ts": {written}}}]}}')
    exact_ns = Decimal(written).scaleb(3).to_integral_value(rounding=ROUND_DOWN)
    far = abs(exact_ns) > MAX_NS or abs(int(written.lower().partition("e")[2] or 0)) > 40
    assert trace.begin_ns.tolist() == ([] if far else [exact_ns])
    assert trace.lost_events == far


@given(st.text(alphabet='{}[]",:\\ntrue0.e-', max_size=30))
def test_no_text_is_too_odd(written: str) -> None:
    trace = read('{"traceEvents": [{"ph": "X", "ts": 1}, ' + written)
    assert trace.begin_ns.tolist()[:1] == [1000]


@given(st.binary(max_size=60))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        for head in (b"", b"\x1f\x8b", gzip.compress(b'{"traceEvents": [')):
            path.write_bytes(head + data)
            with contextlib.suppress(UnreadableTraceError):
                read_file(path)


def test_what_cannot_be_decoded_is_replaced() -> None:
    trace = read(b'{"x": "\xff", "traceEvents": [{"ph": "X", "name": "k\xffernel \xc3\xa4", "ts": 1}]}')
    assert trace.names == ["k?ernel ä"]
    assert metadata_of(trace) == {"x": "?"}


def test_columns_outlive_their_trace() -> None:
    begin_ns = read('{"traceEvents": [{"ph": "X", "ts": 1}, {"ph": "X", "ts": 2}]}').begin_ns
    assert begin_ns.tolist() == [1000, 2000]
    with pytest.raises(ValueError, match="read-only"):
        begin_ns[0] = 5
