"""What `shardprof.load` gives: frames against plain Python and known figures, where their columns lie, and HTA."""

from __future__ import annotations

import dataclasses
import gc
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardprof
from shardprof import ShardprofError
from shardprof.engine import ABSENT
from shardprof.trace.classes import CLASSES
from shardprof.trace.events import Events
from shardprof.trace.importers.kineto import KinetoTrace, read_kineto
from tests.conftest import BASE_NS, Trace, distributed_info

pl = pytest.importorskip("polars", reason="the extra 'frames' is not installed")
tables = pytest.importorskip("shardprof.tables")

CHECKOUT = Path(__file__).parents[2]
RECORDED = CHECKOUT / "traces" / "fsdp2-vit-2ranks"
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES") or CHECKOUT.parent / "shared" / "traces")
DLRM = PUBLIC / "dlrm-8rank-v100"
NUMBERS = ("begin_rel_ns", "end_rel_ns", "stream", "correlation", "external_id")
WORDS = ("name", "category", "thread")

needs_dlrm = pytest.mark.skipif(not DLRM.exists(), reason=f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")


def rows_of(rank: int, trace: KinetoTrace) -> list[dict[str, Any]]:
    """What a frame of events should hold, from the columns one by one."""
    events = trace.events
    absent = [[None if value == ABSENT else value for value in column.tolist()]
              for column in (events.stream, events.correlation, events.external_id)]  # fmt: skip
    columns = {
        "rank": [rank] * len(events),
        "name": [events.names[name] for name in events.name],
        "begin_rel_ns": events.begin_ns.tolist(),
        "end_rel_ns": events.end_ns.tolist(),
        "base_ns": [trace.base_ns] * len(events),
        "category": [events.categories[category] for category in events.category],
        "thread": [events.threads[thread] for thread in events.thread],
        "stream": absent[0],
        "correlation": absent[1],
        "external_id": absent[2],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def recorded_trace(rank: int = 0) -> KinetoTrace:
    return read_kineto(RECORDED / "ranks" / f"{rank:05}" / "trace.json.gz")


# A frame of events.


def test_events_are_those_of_the_traces() -> None:
    run = shardprof.load(RECORDED)
    expected = [rows_of(rank, recorded_trace(rank)) for rank in (0, 1)]
    assert run.events(1).to_dicts() == expected[1]
    assert run.events().to_dicts() == expected[0] + expected[1]
    assert len(expected[0]) > 20_000


def event(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"ph": st.just("X"), "ts": st.integers(0, 1000), "dur": st.integers(0, 9), **fields})


EVENT = event(
    name=st.text(max_size=3) | st.sampled_from(["aten::mm", "Memset"]),
    cat=st.sampled_from(["cpu_op", "Operator", "kernel", "Kernel", "user_annotation"]),  # two names of one category
    pid=st.integers(0, 1),
    tid=st.sampled_from([1, "1", "x/y"]),
    args=st.dictionaries(st.sampled_from(["stream", "correlation", "External id"]), st.integers(-(2**40), 2**40)),
)
TODAY = {"Operator": "cpu_op", "Kernel": "kernel"}


@given(windows=st.lists(st.lists(EVENT, max_size=8), min_size=1, max_size=3))
def test_events_of_several_traces_are_rows_of_one_frame(windows: list[list[dict[str, Any]]]) -> None:
    traces = []
    with tempfile.TemporaryDirectory() as folder:
        for rank, events in enumerate(windows):
            path = Path(folder) / f"rank{rank}.json"
            path.write_text(json.dumps({"baseTimeNanoseconds": rank, "traceEvents": events}))
            traces.append((rank, read_kineto(path)))
    found = tables.events(iter(traces)).to_dicts()
    assert found == [
        {
            "rank": rank,
            "name": event["name"].encode(errors="replace").decode(),
            "begin_rel_ns": event["ts"] * 1000,
            "end_rel_ns": (event["ts"] + event["dur"]) * 1000,
            "base_ns": rank,
            "category": TODAY.get(event["cat"], event["cat"]),
            "thread": f"{event['pid']}/{event['tid']}",
            "stream": event["args"].get("stream"),
            "correlation": event["args"].get("correlation"),
            "external_id": event["args"].get("External id"),
        }
        for rank, events in enumerate(windows)
        for event in events
    ]


def test_half_a_surrogate_pair_in_a_name_is_replaced(tmp_path: Path) -> None:
    path = Trace().event("a\ud800b", 0, 10).event("a?b", 10, 20).write(tmp_path / "trace.json")
    assert "\\ud800" in path.read_text()
    assert shardprof.load(path).events(0)["name"].to_list() == ["a?b", "a?b"]


@pytest.mark.parametrize("number", [2**70, -(2**70)])
def test_a_number_that_is_no_64_bit_one_is_null(number: int, tmp_path: Path) -> None:
    made = Trace({"baseTimeNanoseconds": number, **distributed_info(number, [0, 1])}).step(0, 0, 10)
    made.kernel("gemm", 0, 5).kernel("ncclDevKernel_AllReduce_Sum", 5, 9)
    run = shardprof.load(made.write(tmp_path / "trace.json"))
    assert run.events()["base_ns"].to_list() == [None, None, None]
    assert run.steps()["begin_ns"].to_list() == [None]
    assert run.collectives()["begin_ns"].to_list() == [None]
    assert run.breakdown()["busy_ns"].to_list() == [9]


# Where its columns lie.


def columns_of(events: Events) -> dict[str, Any]:
    """The reader's columns by their names in a frame."""
    begin_and_end = {"begin_rel_ns": events.begin_ns, "end_rel_ns": events.end_ns}
    return begin_and_end | {name: getattr(events, name) for name in (*WORDS, *NUMBERS[2:])}


def address(series: Any) -> int:
    """Where a Series without nulls lies; a ValueError where it would have to be copied to be seen."""
    return int(series.to_physical().to_numpy(allow_copy=False).ctypes.data)


def test_columns_lie_where_the_reader_put_them() -> None:
    trace = recorded_trace()
    frame = tables.events([(0, trace)])
    columns = {name: column for name, column in columns_of(trace.events).items() if frame[name].null_count() == 0}
    assert {name: address(frame[name]) for name in columns} == {name: c.ctypes.data for name, c in columns.items()}
    assert columns.keys() == {"begin_rel_ns", "end_rel_ns", "external_id", *WORDS}


def handmade_events(rows: int) -> KinetoTrace:
    """A trace whose columns can be written to; the numbers of every third event are absent."""
    numbers = np.arange(rows, dtype=np.int64)
    optional = np.where(numbers % 3 == 0, ABSENT, numbers)
    ids = (numbers % 2).astype(np.uint32)
    events = Events(
        begin_ns=numbers.copy(), end_ns=numbers + 1, name=ids, category=ids.copy(), thread=ids.copy(),
        correlation=optional, external_id=optional.copy(), stream=optional.copy(),
        names=("a", "b"), categories=("kernel", "cpu_op"), threads=("1/1", "1/2"),
        shape=ids, detail_row=ids[:0], detail=ids[:0], detail_sequence=numbers[:0], details=(),
    )  # fmt: skip
    return dataclasses.replace(recorded_trace(), events=events)


def test_a_column_with_nulls_is_the_readers_too() -> None:
    trace = handmade_events(9)
    frame = tables.events([(0, trace)])
    assert frame["correlation"].to_list() == [None, 1, 2, None, 4, 5, None, 7, 8]
    for name, column in columns_of(trace.events).items():
        column[4] = 1 if name in WORDS else 77
    assert frame.select(NUMBERS).row(4) == (77,) * len(NUMBERS)
    assert frame.select(WORDS).row(4) == ("b", "cpu_op", "1/2")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_frame_takes_little_memory_of_its_own() -> None:
    tables.events([(0, handmade_events(1000))])  # what is allocated once
    trace = handmade_events(3_000_000)
    held = sum(column.nbytes for column in columns_of(trace.events).values())
    before = resident_bytes()
    frame = tables.events([(0, trace)])
    grown = resident_bytes() - before
    assert frame.height == 3_000_000
    assert grown < held / 10


def test_a_frame_keeps_its_columns_alive() -> None:
    run = shardprof.load(RECORDED)
    frame = run.events(0)
    expected = rows_of(0, recorded_trace(0))
    del run
    gc.collect()
    [recorded_trace(1) for _ in range(3)]  # what else would take the place of columns that are gone
    assert frame.to_dicts() == expected


def test_columns_go_when_the_frame_goes() -> None:
    trace = handmade_events(99)
    frame = tables.events([(0, trace)])
    columns = [weakref.ref(column) for column in columns_of(trace.events).values()]
    del trace
    gc.collect()
    assert [column() for column in columns if column() is None] == []
    del frame
    gc.collect()
    assert [column() for column in columns if column() is not None] == []


# Steps, totals, collectives.


@pytest.mark.parametrize("path", sorted(file.parent for file in (CHECKOUT / "traces").glob("*/expected.json")))
def test_steps_and_breakdown_are_those_of_the_report(path: Path) -> None:
    run = shardprof.load(path)
    ranks = json.loads((path / "expected.json").read_text())["ranks"]
    assert run.ranks == [rank["rank"] for rank in ranks]
    steps = run.steps()
    assert steps.drop(pl.col("^(partition|counter)_.*$")).to_dicts() == [
        {"rank": rank["rank"], "host": rank["host"]} | {name: step[name] for name in scalars_of(step)}
        for rank in ranks
        for step in rank["steps"]
    ]
    partition = steps.select(pl.col("^partition_.*$"))
    expected = [[step["partition_ns"][name] for name in CLASSES] for rank in ranks for step in rank["steps"]]
    assert partition.rows() == [tuple(row) for row in expected]
    assert partition.sum_horizontal().to_list() == steps["wall_ns"].to_list()
    totals = run.breakdown().select(ranks[0]["total"].keys())
    assert totals.to_dicts() == [rank["total"] for rank in ranks]


def scalars_of(step: dict[str, Any]) -> list[str]:
    return ["step", "begin_ns", "wall_ns", "busy_ns", "compute_ns", "comm_ns", "overlap_ns", "empty"]


def test_steps_have_what_the_counters_say_of_them() -> None:
    run = shardprof.load(RECORDED)
    told = [step.counters for rank in run.result.ranks for step in rank.steps]
    assert any(told)
    for counters, row in zip(told, run.steps().to_dicts(), strict=True):
        assert {f"counter_{name}": value for name, value in counters.items()}.items() <= row.items()


def test_every_recorded_step_has_a_row(tmp_path: Path) -> None:
    run = shardprof.load(RECORDED)
    frame = run.recorded_steps()
    assert frame.height == sum(rank.always_on.steps for rank in run.result.ranks if rank.always_on)
    captured = frame.filter("captured").select("rank", "step")
    assert captured.rows() == run.steps().select("rank", "step").rows()
    assert frame["counter_rss_bytes"].drop_nulls().min() > 1e6
    assert shardprof.load(Trace().write(tmp_path / "trace.json")).recorded_steps().height == 0


def test_shares_are_of_the_span_and_of_communication(tmp_path: Path) -> None:
    made = Trace().kernel("gemm", 0, 50).kernel("ncclDevKernel_AllReduce_Sum", 40, 80, stream=2)
    made.kernel("Memcpy HtoD", 190, 200, cat="gpu_memcpy")
    (shares,) = shardprof.load(made.write(tmp_path / "trace.json")).breakdown().select(pl.col("^.*_pct$")).to_dicts()
    assert shares == {
        "busy_pct": 45.0, "idle_pct": 55.0, "compute_pct": 25.0, "comm_pct": 20.0, "exposed_comm_pct": 15.0,
        "overlap_pct": 25.0,
    }  # fmt: skip


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    Trace().kernel("gemm", 0, 50).write(tmp_path / "rank0.json")
    Trace().event("nothing that counts", 0, 50, cat="user_annotation").write(tmp_path / "rank1.json")
    run = shardprof.load(tmp_path)
    assert run.breakdown().select("rank", "device", "busy_ns", "busy_pct", "overlap_pct").rows() == [
        (0, "cuda", 50, 100.0, None),
        (1, None, None, None, None),
    ]
    assert "no_activities" in {doubt.code for doubt in run.quality}


def test_collectives_one_by_one(tmp_path: Path) -> None:
    metadata = {"Collective_name": "_allgather_base", "In_msg_nelems": 500, "Out_msg_nelems": 1000, "dtype": "Float"}
    group = {"Process_Group_Name": "0", "Group_size": 2}
    made = Trace(distributed_info(1, [0, 1])).step(0, 0, 100)
    made.kernel("ncclDevKernel_AllGather", 20, 40, correlation=1, **metadata, **group).launch(1, 10)
    made.kernel("ncclDevKernel_AllReduce_Sum", 50, 60)
    frame = shardprof.load(made.write(tmp_path / "trace.json")).collectives()
    assert frame.to_dicts()[0] == {
        "rank": 1, "kind": "all_gather", "group": "default_pg", "group_size": 2, "launched_ns": BASE_NS + 10,
        "begin_ns": BASE_NS + 20, "end_ns": BASE_NS + 40, "payload_bytes": 4000, "wire_bytes": 2000,
        "algorithm": None, "protocol": None, "channels": None, "transport": None,
    }  # fmt: skip
    assert frame.select("kind", "payload_bytes", "wire_bytes").row(1) == ("all_reduce", None, None)


@pytest.mark.parametrize("method", ["events", "steps", "recorded_steps", "breakdown", "collectives"])
def test_frames_have_their_columns_and_types_when_they_are_empty(method: str, tmp_path: Path) -> None:
    empty = shardprof.load(Trace().write(tmp_path / "trace.json"))
    frame, full = getattr(empty, method)(), getattr(shardprof.load(RECORDED), method)()
    assert frame.height == (1 if method == "breakdown" else 0)
    full = full.drop(pl.col("^counter_.*$"))
    assert [str(dtype).split("(")[0] for dtype in frame.dtypes] == [str(dtype).split("(")[0] for dtype in full.dtypes]
    assert frame.columns == full.columns


@pytest.mark.parametrize("method", ["events", "steps", "recorded_steps", "breakdown", "collectives"])
def test_every_column_is_described(method: str) -> None:
    run = shardprof.load(RECORDED)
    described = getattr(type(run), method).__doc__
    columns = getattr(run, method)().drop(pl.col("^counter_.*$")).columns
    left_out = {f"partition_{name}_ns" for name in CLASSES[2:-1]}
    assert [name for name in columns if name not in described and name not in left_out] == []


@pytest.mark.filterwarnings("ignore")  # pandas' own
def test_frames_become_pandas_frames() -> None:
    pytest.importorskip("pandas", reason="to_pandas needs pandas")
    pytest.importorskip("pyarrow", reason="to_pandas needs pyarrow")
    run = shardprof.load(RECORDED)
    for frame in (run.events(0), run.steps(), run.breakdown(), run.collectives()):
        converted = frame.to_pandas()
        assert (list(converted.columns), len(converted)) == (frame.columns, frame.height)
    assert run.events(0).to_pandas()["name"].tolist() == run.events(0)["name"].to_list()


# A Run.


def test_a_run_says_what_it_is() -> None:
    run = shardprof.load(RECORDED)
    first, verdict, figures = repr(run).splitlines()
    assert first == f"Run('{RECORDED}', ranks=2, steps=6)"
    assert verdict.startswith("Communication-bound: 27 %")
    assert figures.startswith("step 92.1 ms")
    assert run.headline.splitlines()[:2] == [verdict, figures]
    assert "AdamW updates tensor by tensor" in run.headline
    assert run.result.step_source == "ProfilerStep"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    script = f"""
import sys, shardprof
assert not {{"numpy", "polars", "shardprof.engine"}} & set(sys.modules)
run = shardprof.load({str(RECORDED)!r})
assert run.ranks == [0, 1] and not {{"polars", "pandas", "hta"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [("events", "polars", "frames"), ("steps", "polars", "frames"), ("hta", "hta", "hta")],
)
def test_a_missing_extra_is_named(method: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shardprof.load(RECORDED)
    monkeypatch.setitem(sys.modules, module, None)  # what Python takes for "is not installed"
    with pytest.raises(ShardprofError, match=rf"{module} is not installed; pip install 'shardprof\[{extra}\]'"):
        getattr(run, method)()


def test_a_rank_that_is_not_there_is_refused() -> None:
    with pytest.raises(ShardprofError, match="there is no rank 7"):
        shardprof.load(RECORDED).events(7)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardprofError, match="does not exist"):
        shardprof.load(tmp_path / "nothing")


def test_a_rank_of_which_nothing_was_captured_has_no_events(tmp_path: Path) -> None:
    for rank in (0, 1):
        folder = tmp_path / "ranks" / f"{rank:05}"
        folder.mkdir(parents=True)
        for file in ("rank.json", "steps.jsonl"):
            (folder / file).write_bytes((RECORDED / "ranks" / f"{rank:05}" / file).read_bytes())
    run = shardprof.load(tmp_path)
    assert run.ranks == [0, 1]
    assert (run.events().height, run.events(1).height, run.steps().height) == (0, 0, 0)
    pytest.importorskip("hta")
    with pytest.raises(ShardprofError, match="there are no traces for HTA"):
        run.hta()


# HTA.


Hta = Callable[..., Any]


@pytest.fixture
def hta_of() -> Hta:
    pytest.importorskip("hta.trace_analysis", reason="the extra 'hta' is not installed")
    return lambda *paths: shardprof.load(*paths).hta()


@needs_dlrm
@pytest.mark.filterwarnings("ignore")  # HTA's own
def test_hta_agrees_where_definitions_do(hta_of: Hta) -> None:
    ours = shardprof.load(DLRM).breakdown().to_dicts()
    analysis = hta_of(DLRM)
    theirs = analysis.get_temporal_breakdown(visualize=False).set_index("rank")
    overlap = analysis.get_comm_comp_overlap(visualize=False).set_index("rank")["comp_comm_overlap_pctg"]
    assert sorted(theirs.index) == [rank["rank"] for rank in ours] == list(range(8))
    for rank in ours:
        row = theirs.loc[rank["rank"]]
        assert row["kernel_time(us)"] * 1000 == rank["span_ns"]
        assert row["idle_time(us)"] * 1000 == rank["idle_ns"]
        assert row["compute_time(us)"] * 1000 == rank["compute_ns"]
        assert row["non_compute_time(us)"] * 1000 == rank["busy_ns"] - rank["compute_ns"]
        assert overlap[rank["rank"]] == pytest.approx(rank["overlap_pct"], abs=0.005)


@needs_dlrm
@pytest.mark.filterwarnings("ignore")
def test_hta_gets_the_ranks_of_compact_json_and_of_names(hta_of: Hta, tmp_path: Path) -> None:
    for rank in (2, 5):
        trace = json.loads(gzip.decompress((DLRM / f"worker{rank}.json.gz").read_bytes()))
        (tmp_path / f"rank{rank}.json").write_text(json.dumps(trace, separators=(",", ":")))
    found = hta_of(tmp_path).t.get_all_traces()
    assert sorted(found) == [2, 5]
    assert len(found[2]) != len(found[5])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(file.parent for file in (CHECKOUT / "traces").glob("*/run.json")))
def test_hta_opens_recorded_runs_from_anywhere(
    path: Path, hta_of: Hta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    analysis = hta_of(path.name)
    assert sorted(analysis.t.get_all_traces()) == shardprof.load(path.name).ranks
    steps = shardprof.load(path.name).steps()["step"].unique().sort().to_list()
    assert analysis.get_profiler_steps() == steps[:-1]  # HTA leaves the last one out


def test_several_windows_of_a_rank_are_too_many_for_hta(hta_of: Hta, tmp_path: Path) -> None:
    folder = tmp_path / "ranks" / "00000"
    for file in ("trace.json", "trace.1.json"):
        Trace(distributed_info(0, [0])).step(0, 0, 10).kernel("gemm", 0, 5).write(folder / file)
    run = shardprof.load(tmp_path)
    assert run.events(0).height == 4
    with pytest.raises(ShardprofError, match="rank 0 has several traces"):
        hta_of(tmp_path)


def test_a_file_that_hta_would_not_open_is_named(hta_of: Hta, tmp_path: Path) -> None:
    path = Trace().kernel("gemm", 0, 5).write(tmp_path / "trace.chrome")
    with pytest.raises(ShardprofError, match=r"HTA cannot read .*trace\.chrome"):
        hta_of(path)
    pytest.importorskip("fsspec", reason="reads URLs")
    with pytest.raises(ShardprofError, match=r"HTA cannot read file://.*; it reads .* on this machine"):
        hta_of(path.as_uri())
