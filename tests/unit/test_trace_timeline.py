"""The timeline: every event once, at its nanosecond, nested on its track, with what was sampled beside it."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import tracemalloc
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof import cli
from shardprof.errors import UnreadableTraceError
from shardprof.trace import unpacked
from shardprof.trace.run import load
from shardprof.trace.schema import CounterRecord, Device, HostRecord, RankRecord, StepRecord, to_json, write_whole
from shardprof.trace.timeline import made_from, sorted_rows, trace_text, write_timeline
from shardprof.trace.timeline.trace_text import TraceText
from tests.conftest import BASE_NS, Trace, distributed_info
from tests.timelines import Written, assert_nested

TRACES = Path(__file__).parents[2] / "traces"
MS = 1_000_000


def timeline(path: Path, out: Path | None = None) -> Written:
    out = out or path.parent / f"{path.name}.timeline.json.gz"
    write_timeline(load([path]), out)
    return Written(out)


def rank_folder(run: Path, rank: int, host: str = "node-a", **fields: Any) -> Path:
    folder = run / "ranks" / f"{rank:05d}"
    folder.mkdir(parents=True)
    record = RankRecord(
        rank=rank,
        world_size=2,
        local_rank=rank,
        host=host,
        pid=7,
        device="cpu",
        started_ns=BASE_NS,
        versions={},
        **fields,
    )
    write_whole(folder / "rank.json", record)
    return folder


def host_folder(run: Path, *samples: CounterRecord, devices: tuple[Device, ...] = ()) -> Path:
    folder = run / "hosts" / "node-a"
    folder.mkdir(parents=True)
    record = HostRecord(name="node-a", identity="a", launcher_pid=1, cpu_count=2, memory_bytes=1, devices=devices)
    write_whole(folder / "host.json", record)
    (folder / "counters.jsonl").write_text("".join(f"{to_json(sample)}\n" for sample in samples))
    return folder


def metadata(what: str, process: Any, thread: Any, value: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "ts": 0, "args": {"it": value}}


def gpu_trace() -> Trace:
    """A trace of a process 1 and its GPU 0, as Kineto names them, with a launch and its arrow."""
    made = Trace()
    made.events += [
        metadata("process_name", 1, 0, "python3"), metadata("process_labels", 1, 0, "CPU"),
        metadata("process_name", 0, 0, "python3"), metadata("process_labels", 0, 0, "GPU 0"),
        metadata("process_labels", 5, 0, "GPU 5"),
        metadata("thread_name", 1, 1, "thread 1 (python3)"), metadata("thread_name", 0, 7, "stream 7 "),
    ]  # fmt: skip
    made.event("cudaLaunchKernel", 1000, 2000).event("aten::mm", 500, 3000)
    made.events += [
        {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 3, "dur": 2, "args": {"stream": 7}},
        {"ph": "s", "id": 12, "cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 1, "ts": 1},
        {"ph": "f", "id": 12, "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7, "ts": 3, "bp": "e"},
        {"ph": "X", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "PyTorch Profiler", "ts": 0, "dur": 9},
        {"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": 9},
    ]
    return made


def test_every_event_of_a_recorded_run_is_there_once_and_at_its_nanosecond(tmp_path: Path) -> None:
    run = TRACES / "fsdp2-vit-2ranks"
    expected: Counter[tuple[str, int, int]] = Counter()
    flows = 0
    for file in run.glob("ranks/*/trace.json.gz"):
        trace = json.loads(gzip.decompress(file.read_bytes()), parse_float=Decimal)
        for event in trace["traceEvents"]:
            flows += event["ph"] in ("s", "f")
            if event["ph"] == "X":
                begin_ns = trace["baseTimeNanoseconds"] + int(event["ts"] * 1000)
                expected[event["name"], begin_ns, begin_ns + int(event["dur"] * 1000)] += 1
    written = timeline(run, tmp_path / "t.json.gz")
    slices = written.slices()
    assert Counter((s.name, s.begin_ns, s.end_ns) for s in slices if not s.name.startswith("step ")) == expected
    assert sum(event["cat"] != "collective" for event in written.of("s", "f")) == flows
    assert min(map(written.ns, written.of("X", "C", "i"))) == written.whole["baseTimeNanoseconds"] + 10**9
    assert_nested(written.all_slices())


def test_ranks_are_on_one_clock_whatever_their_files_count_from(tmp_path: Path) -> None:
    early, late = Trace(distributed_info(0, [0, 1])), Trace(distributed_info(1, [0, 1]))
    late.header["baseTimeNanoseconds"] = BASE_NS + 1
    early.events.append({"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": 4482656494663.561, "dur": 0.001})
    late.events.append({"ph": "X", "name": "b", "pid": 1, "tid": 1, "ts": 4482656494663.561, "dur": 0.001})
    early.write(tmp_path / "run" / "rank0.json")
    late.write(tmp_path / "run" / "rank1.json.gz")
    begins = {one.name: one.begin_ns for one in timeline(tmp_path / "run").slices()}
    assert begins == {"a": BASE_NS + 4482656494663561, "b": BASE_NS + 4482656494663562}


def test_digits_below_the_nanosecond_are_dropped_such_that_slices_still_nest(tmp_path: Path) -> None:
    (tmp_path / "rank0.json").write_text(
        '{"traceEvents": [{"ph": "X", "name": "outer", "pid": 1, "tid": 1, "ts": 1712195495406752.0006, "dur": 1.0007},'
        '{"ph": "X", "name": "inner", "pid": 1, "tid": 1, "ts": 1712195495406752.9999, "dur": 0.0012}]}'
    )
    outer, inner = timeline(tmp_path / "rank0.json").slices()
    assert (outer.begin_ns, outer.end_ns) == (1712195495406752000, 1712195495406753001)
    assert (inner.begin_ns, inner.end_ns) == (1712195495406752999, 1712195495406753001)
    assert outer.track == inner.track


def test_slices_that_overlap_without_nesting_get_a_track_behind_their_own(tmp_path: Path) -> None:
    made = Trace().event("a", 0, 100).event("b", 50, 150).event("in b", 60, 150).event("after", 150, 160)
    written = timeline(made.event("in a", 10, 90).write(tmp_path / "rank0.json"))
    tracks = {one.name: written.threads[one.track] for one in written.slices()}
    first, second = "main thread · thread 1", "main thread · thread 1 (overlapping)"
    assert tracks == {"a": first, "in a": first, "b": second, "in b": second, "after": first}
    assert [thread for _, thread in written.in_order()][-2:] == [first, second]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.sampled_from([1, 2])), max_size=40))
def test_slices_nest_whatever_comes(tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int, int]]) -> None:
    trace = Trace()
    for begin, duration, thread in made:
        trace.event(f"{begin}+{duration}", begin, begin + duration, tid=thread)
    written = timeline(trace.write(tmp_path_factory.mktemp("nest") / "rank0.json"))
    assert_nested(written.all_slices())
    assert Counter(one.name for one in written.slices()) == Counter(
        f"{begin}+{duration}" for begin, duration, _ in made
    )


def test_a_rank_has_its_classes_first_then_its_streams_its_threads_and_the_profiler(tmp_path: Path) -> None:
    for rank in (1, 0):
        gpu_trace().write(tmp_path / "run" / f"rank{rank}.json")
    tracks = ["phases", "compute · stream 7", "main thread · thread 1", "profiler · thread"]
    expected = [
        (f"rank {rank}", track)
        for rank in (0, 1)
        for track in (f"rank {rank} · step classes", *tracks, "profiler · thread PyTorch Profiler")
    ]
    assert timeline(tmp_path / "run").in_order() == expected


def test_what_has_one_number_in_several_traces_has_several_here(tmp_path: Path) -> None:
    """Two ranks and two windows, all with process 1, thread 1 and arrow 12."""
    run = tmp_path / "run"
    for rank, files in ((0, ("trace.json", "trace.1.json")), (1, ("trace.json",))):
        folder = rank_folder(run, rank)
        for file in files:
            gpu_trace().write(folder / file)
    written = timeline(run)
    numbers = [*written.names, *written.threads]
    assert len(numbers) == len(set(numbers))
    arrows = defaultdict(list)
    for event in written.of("s", "f"):
        arrows[event["id"]].append((event["ph"], written.names[event["pid"]], written.threads[event["tid"]]))
    titles = ["rank 0 · node-a", "rank 0 · node-a", "rank 1 · node-a"]
    ends = [[("f", title, "compute · stream 7"), ("s", title, "main thread · thread 1")] for title in titles]
    assert sorted(sorted(arrow) for arrow in arrows.values()) == ends


def test_an_arrow_follows_its_slice_to_another_track(tmp_path: Path) -> None:
    made = Trace().event("annotation", 0, 4000, tid=7).event("kernel", 3000, 5000, tid=7)
    made.events.append({"ph": "f", "id": 1, "name": "ac2g", "pid": 1, "tid": 7, "ts": 3, "bp": "e"})
    written = timeline(made.write(tmp_path / "rank0.json"))
    (arrow,) = written.of("f")
    assert arrow["tid"] == next(one.track for one in written.slices() if one.name == "kernel")
    assert arrow["bp"] == "e"


def test_steps_are_slices_of_their_rank_with_the_sums_of_phases(tmp_path: Path) -> None:
    folder = rank_folder(tmp_path / "run", 3)
    memory = {"allocated_bytes": 5, "ooms": 1}
    records = [
        StepRecord(step=0, begin_ns=BASE_NS, end_ns=BASE_NS + 11, data_ns=4),
        StepRecord(step=1, begin_ns=BASE_NS + 11, end_ns=BASE_NS + 31, captured=True, cuda_memory=memory),
    ]
    (folder / "steps.jsonl").write_text("".join(f"{to_json(record)}\n" for record in records))
    written = timeline(tmp_path / "run")
    first, second = written.slices()
    assert (first.process, first.name, written.threads[first.track]) == ("rank 3 · node-a", "step 0", "recorded steps")
    assert (first.begin_ns, first.end_ns, first.args["data_ns"]) == (BASE_NS, BASE_NS + 11, 4)
    assert (second.begin_ns, second.end_ns, second.args["captured"]) == (BASE_NS + 11, BASE_NS + 31, True)
    assert "data_ns" not in second.args
    assert written.counters() == {
        ("rank 3 · node-a", "CUDA memory · allocated B"): [(BASE_NS + 31, 5)],
        ("rank 3 · node-a", "CUDA memory · ooms"): [(BASE_NS + 31, 1)],
    }


def sample(time_ms: int, **values: dict[str, float]) -> CounterRecord:
    subjects = {name.replace("_", " "): counters for name, counters in values.items()}
    return CounterRecord(time_ns=BASE_NS + time_ms * MS, source="host", values=subjects)


def test_counters_stand_with_whom_they_are_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rank_folder(run, 0, device_uuid="GPU-b")
    rank_folder(run, 1, host="node-b", device_uuid="GPU-a")
    values = {"rank_0": {"rss_bytes": 7}, "gpu_0": {"power_w": 70}, "gpu_1": {"power_w": 71}, "node": {"processes": 3}}
    devices = (Device(subject="gpu 0", name="", uuid="GPU-a"), Device(subject="gpu 1", name="", uuid="GPU-b"))
    host_folder(run, sample(0, **values), devices=devices)
    assert timeline(run).counters() == {
        ("rank 0 · node-a", "resident memory B"): [(BASE_NS, 7)],
        ("rank 0 · node-a", "gpu 1 · power W"): [(BASE_NS, 71)],
        ("host node-a", "gpu 0 · power W"): [(BASE_NS, 70)],
        ("host node-a", "node · processes"): [(BASE_NS, 3)],
    }


def test_totals_become_rates_from_one_sample_to_the_next(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rank_folder(run, 0)
    totals = (
        (0, 100),
        (250, 150),
        (750, 150),
        (1000, 20),
        (1500, 30),
    )  # between the third and the fourth it began anew
    host_folder(run, *(sample(time_ms, eth0={"tx_bytes": total}) for time_ms, total in totals))
    rates = timeline(run).counters()["host node-a", "eth0 · sent B/s"]
    assert rates == [(BASE_NS, 200), (BASE_NS + 250 * MS, 0), (BASE_NS + 1000 * MS, 20)]


def test_a_total_has_a_track_once_it_grows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rank_folder(run, 0)
    totals = ((0, 5), (250, 5), (500, 5), (750, 6), (1000, 6))
    values = [(at, {"tx_bytes": total, "rx_bytes": 9}) for at, total in totals]
    host_folder(run, *(sample(time_ms, eth0=counters) for time_ms, counters in values))
    still_then_growing = [(BASE_NS, 0), (BASE_NS + 500 * MS, 4), (BASE_NS + 750 * MS, 0)]
    assert timeline(run).counters() == {("host node-a", "eth0 · sent B/s"): still_then_growing}


def test_what_happened_stands_where_it_happened(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rank_folder(run, 0)
    folder = host_folder(
        run, CounterRecord(time_ns=BASE_NS + 5, source="nvml", values={}, events={"gpu 0": ["xid 79"]})
    )
    report = folder / "watchdog" / "1" / "report.txt"
    report.parent.mkdir(parents=True)
    report.write_text("no progress for 5 s on rank 0\nrank 0 is in step 3\n")
    os.utime(report, ns=(BASE_NS + 10**9, BASE_NS + 10**9))
    written = timeline(run)
    instants = [(written.names[e["pid"]], written.threads[e["tid"]], e["name"], written.ns(e)) for e in written.of("i")]
    assert instants == [
        ("host node-a", "events", "gpu 0 · xid 79", BASE_NS + 5),
        ("host node-a", "watchdog", "no progress for 5 s on rank 0", BASE_NS + 10**9),
    ]


def test_sampled_stacks_are_a_process_of_their_rank(tmp_path: Path) -> None:
    folder = rank_folder(tmp_path / "run", 0)
    gpu_trace().write(folder / "trace.json")
    stacks = Trace({"baseTimeNanoseconds": BASE_NS + 1000})
    stacks.events += [metadata("process_name", 1, 0, "rank 0"), metadata("thread_name", 1, 1, "MainThread")]
    stacks.event("main", 0, 9000, cat="python").event("step", 1000, 2000, cat="python").write(folder / "stacks.json.gz")
    written = timeline(tmp_path / "run")
    sampled = [one for one in written.slices() if written.threads[one.track] == "stacks · MainThread"]
    assert [(one.name, one.begin_ns) for one in sampled] == [("main", BASE_NS + 1000), ("step", BASE_NS + 2000)]
    assert written.in_order()[-1] == ("rank 0 · node-a", "stacks · MainThread")


def test_a_time_that_was_lost_does_not_stretch_the_timeline(tmp_path: Path) -> None:
    made = Trace({"baseTimeNanoseconds": 0}).event("lost", 0, 5).event("kept", BASE_NS // 10**6 * 10**6, BASE_NS + 5)
    made.write(tmp_path / "rank0.json")
    out = tmp_path / "t.json.gz"
    told = write_timeline(load([tmp_path / "rank0.json"]), out)
    assert [one.name for one in Written(out).slices()] == ["kept"]
    assert [(doubt.code, doubt.count) for doubt in told.quality] == [("zero_timestamps", 1)]


EVENTS = [{"ph": "X", "name": f'{i} }}, {{ ] é "', "ts": i, "args": {"of": [{"a": i}, {"b": "}]"}]}} for i in range(9)]
HEADER = {"baseTimeNanoseconds": BASE_NS, "distributedInfo": {"pg_config": [{"ranks": [0]}, {"ranks": [1]}]}}
TAIL = {"traceName": "x", "shardprof": {"chunks": [{"a": 1}, {"b": 2}]}}


def parts_of(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("events_first", [False, True])
def test_events_are_found_however_the_text_arrives(size: int, indent: int | None, events_first: bool) -> None:  # noqa: FBT001
    parts = [{"traceEvents": EVENTS}, HEADER]
    whole = {**parts[not events_first], **parts[events_first], **TAIL}
    text = TraceText(parts_of(json.dumps(whole, indent=indent, ensure_ascii=False).encode(), size), "it")
    names = [json.loads(bytes(event.name)) for events in text.events() for event in events]  # type: ignore[arg-type]
    assert names == [event["name"] for event in EVENTS]
    assert (text.lost_events, text.base_ns()) == (0, BASE_NS)
    assert text.members() == {**HEADER, **TAIL, "traceEvents": []}


@pytest.mark.parametrize(
    ("text", "names", "lost"),
    [
        ('[{"ph": "X", "name": "a"}, {"ph": "X", "name": "b"}]', ["a", "b"], 0),
        ('{"traceEvents": []}', [], 0),
        ('{"traceEvents": [{"ph": "X", "name": "a"}, {"ph": "X", "na', ["a"], 1),
        ('{"traceEvents": [{"ph": "X", "name": "a"}', ["a"], 0),
        (
            '{"traceEvents": [{"ph": "X", "name": "a", "args": {"x": NaN, "y": N/A}}, {"ph": "X", "name": "b"}]}',
            ["a", "b"],
            0,
        ),
        ('{"traceEvents": [{"ph": "X", "name": "quo"te"}, {"ph": "X", "name": "b"}]}', ["b"], 1),
        ('{"traceEvents": [{"ph": "X", "name": "a\tb"}, {"no": "event"}, {"ph": 5}]}', ["a\tb"], 2),
    ],
)
@pytest.mark.parametrize("size", [5, 1 << 20])
def test_what_is_damaged_costs_itself(text: str, names: list[str], lost: int, size: int) -> None:
    read = TraceText(parts_of(text.encode(), size), "it")
    found = [json.loads(bytes(event.name)) for events in read.events() for event in events]  # type: ignore[arg-type]
    assert (found, read.lost_events) == (names, lost)


@pytest.mark.parametrize("part", [b"}", b"x", b'}, {"a": [', b"]"])
def test_an_event_without_an_end_is_given_up(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_text, "_MOST_EVENT_BYTES", 1 << 16)
    blocks = iter([b'{"traceEvents": [{"ph": "X", "name": "', *([part * 1000] * 40)])
    text = TraceText(blocks, "it")
    with suppress(UnreadableTraceError):
        assert [event for events in text.events() for event in events] == []
    assert next(blocks, b"") or text.lost_events


def test_rows_are_in_order_however_many_parts_they_were_sorted_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sorted_rows, "_PART_BYTES", 100 * sorted_rows._ROW_BYTES)
    chance = random.Random(1)
    rows = [(chance.randrange(500), chance.randrange(-3, 2), at, b"body") for at in range(5000)]
    with sorted_rows.RowStore(tmp_path) as store:
        sorting = sorted_rows.SortedRows(store)
        for row in rows:
            sorting.add(row)
        sorting.finish()
        assert list(sorting) == sorted(rows)
        assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sorted_rows, "_PART_BYTES", 1 << 18)
    peaks = []
    for events in (2_000, 20_000):
        made = Trace()
        for begin in range(events):
            made.event("aten::mm", begin, begin + 1, Input_Dims=[[begin, 64]] * 40)
        run = load([made.write(tmp_path / "rank0.json")])
        tracemalloc.start()
        own = 2  # the whole trace, and that it computes
        assert write_timeline(run, tmp_path / "t.json.gz").events == events + own
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < (tmp_path / "rank0.json").stat().st_size / 2, "the text is never in memory as a whole"
    assert peaks[1] < 2 * peaks[0], "ten times the events take little more"


def test_packed_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    file = tmp_path / "rank0.json.gz"
    text = gpu_trace().text().encode()
    file.write_bytes(gzip.compress(text[:100]) + gzip.compress(text[100:]))
    assert b"".join(unpacked.text_blocks(file)) == text
    file.write_bytes(gzip.compress(text)[:-20])
    assert text.startswith(b"".join(unpacked.text_blocks(file)))
    file.write_bytes(gzip.compress(text)[:60] + b"\xff" * 100)
    assert len(b"".join(unpacked.text_blocks(file))) < len(text)


def test_what_is_packed_otherwise_or_inflates_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "z.json.zst").write_bytes(b"\x28\xb5\x2f\xfd....")
    with pytest.raises(UnreadableTraceError, match="zstd -d"):
        list(unpacked.text_blocks(tmp_path / "z.json.zst"))
    monkeypatch.setattr(unpacked, "_HONEST_BYTES", 1 << 20)
    (tmp_path / "bomb.json.gz").write_bytes(zlib.compress(bytes(64 << 20), 9, 31))
    with pytest.raises(UnreadableTraceError, match="inflates"):
        list(unpacked.text_blocks(tmp_path / "bomb.json.gz"))


def test_a_file_that_is_no_trace_is_told_of_and_the_others_are_used(tmp_path: Path) -> None:
    gpu_trace().write(tmp_path / "run" / "rank0.json")
    (tmp_path / "run" / "notes.json").write_text('{"a": 1}')
    out = tmp_path / "t.json.gz"
    told = write_timeline(load([tmp_path / "run"]), out)
    assert told.ranks == (0,)
    assert [doubt.code for doubt in told.quality] == ["unreadable_trace"]


def test_the_command_says_where_the_timeline_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_trace().write(tmp_path / "run" / "rank0.json")
    lines = []
    for _ in range(2):  # the second time a timeline lies among the traces
        assert cli.main(["timeline", str(tmp_path / "run")]) == 0
        where, viewer = capsys.readouterr().out.splitlines()
        assert "https://ui.perfetto.dev" in viewer
        lines.append(where)
    begin = f"timeline: {tmp_path / 'run' / 'timeline.json.gz'}"
    assert re.fullmatch(rf"{re.escape(begin)} \(1 rank, 9 events, \d+ B\)", lines[0])
    assert lines[1] == f"{begin} (made earlier)"
    assert {file.name for file in (tmp_path / "run").iterdir()} - {".shardprof-cache"} == {
        "rank0.json",
        "timeline.json.gz",
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["{here}/nothing"], "does not exist"),
        (["{here}/run", "--out", "{here}/no/t.json.gz"], "cannot be written"),
        (["{here}/notes.json"], "not readable as a trace"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_trace().write(tmp_path / "run" / "rank0.json")
    (tmp_path / "notes.json").write_text('{"a": 1}')
    assert cli.main(["timeline", *(argument.format(here=tmp_path) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not list(tmp_path.glob("**/*.json.gz*"))


def test_what_is_read_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a timeline that somebody sent nor another tool's file of that name."""
    gpu_trace().write(tmp_path / "run" / "rank0.json")
    assert cli.main(["timeline", str(tmp_path / "run"), "--out", str(tmp_path / "sent" / "x.json.gz")]) == 2
    (tmp_path / "sent").mkdir()
    sent = tmp_path / "sent" / "timeline.json.gz"
    assert cli.main(["timeline", str(tmp_path / "run"), "--out", str(sent)]) == 0
    before = sent.read_bytes()
    capsys.readouterr()
    assert cli.main(["timeline", str(sent)]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert sent.read_bytes() == before
    other = gpu_trace().write(tmp_path / "other" / "timeline.json.gz")
    gpu_trace().write(tmp_path / "other" / "rank0.json")
    before = other.read_bytes()
    assert cli.main(["timeline", str(tmp_path / "other")]) == 2
    assert "--out FILE" in capsys.readouterr().err
    assert other.read_bytes() == before


def test_names_of_files_cannot_talk_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_trace().write(tmp_path / "run" / "rank0.json")
    (tmp_path / "run" / "rank1_\x1b]0;owned\a.json").write_text('{"a": 1}')
    assert cli.main(["timeline", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "owned" in out
    assert "\x1b" not in out
    assert cli.main(["timeline", str(tmp_path / "run"), "--out", str(tmp_path / "no\x1b[2J" / "t.json.gz")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_counter_keeps_its_numbers_only(tmp_path: Path) -> None:
    made = Trace().event("a", 0, 10)
    for args in ('{"a": 1, "b": "x", "c": NaN}', '{"b": [1]}', "{}", '"text"'):
        made.events.append({"ph": "C", "name": "c", "pid": 1, "tid": 1, "ts": 1, "args": "HERE" + args})
    text = re.sub(r'"HERE(.*?)"(?=\})', lambda match: match[1].replace('\\"', '"'), made.text())
    (tmp_path / "rank0.json").write_text(text)
    told = write_timeline(load([tmp_path / "rank0.json"]), tmp_path / "t.json.gz")
    assert [event["args"] for event in Written(tmp_path / "t.json.gz").of("C")] == [{"a": 1}]
    assert told.ranks == (0,)


def test_a_timeline_is_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named outright it is refused; among traces it is passed over, whatever it is called."""
    for rank in (0, 1):
        gpu_trace().write(tmp_path / "run" / f"rank{rank}.json")
    assert cli.main(["timeline", str(tmp_path / "run"), "--out", str(tmp_path / "run" / "mine.json.gz")]) == 0
    assert cli.main(["report", str(tmp_path / "run" / "mine.json.gz")]) == 2
    assert "is a timeline that shardprof made" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "run"), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [rank["rank"] for rank in report["ranks"]] == [0, 1]
    assert "unreadable_trace" in [doubt["code"] for doubt in report["quality"]]


def test_a_device_or_a_pipe_stays_what_it_is(tmp_path: Path) -> None:
    run = gpu_trace().write(tmp_path / "rank0.json")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_timeline(load([run]), pipe)
        assert reader.stdout is not None
        whole = json.loads(gzip.decompress(reader.stdout.read()))
    assert pipe.is_fifo()
    assert whole["traceEvents"]


def test_without_captured_steps_the_recorded_ones_are_shown_first(tmp_path: Path) -> None:
    folder = rank_folder(tmp_path / "run", 0)
    records = [StepRecord(step=step, begin_ns=BASE_NS + 10 * step, end_ns=BASE_NS + 10 * step + 10) for step in (0, 1)]
    (folder / "steps.jsonl").write_text("".join(f"{to_json(record)}\n" for record in records))
    write_timeline(load([tmp_path / "run"]), tmp_path / "t.json.gz")
    made = made_from(tmp_path / "t.json.gz")
    assert made is not None
    assert made.shown_ns == (10**9, 10**9 + 20)
