"""What py-spy wrote becomes slices that nest, collapsed stacks and a picture; the files are whole after each chunk."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shardprof.recording.beside.stacks import files as stack_files
from shardprof.recording.beside.stacks import flame_graph
from shardprof.recording.beside.stacks.files import INTERVAL_US, StackFiles
from shardprof.recording.beside.stacks.growing_gzip import GrowingGzip
from shardprof.recording.beside.stacks.py_spy import Anchor, Samples
from shardprof.recording.beside.stacks.recorder import CHUNK_S, WHOLE_S, pause_s
from shardprof.recording.beside.stacks.sampled_calls import Call, read_calls
from shardprof.recording.rank.permit import permit_reading
from shardprof.trace.schema import RANK_FILE, STACKS_FILE, RankRecord, write_whole

PID = 40
PYTHON_THREAD = 0x7F0011223344


def event(
    phase: str, ts: int, name: str, line: int = 1, thread: int = PYTHON_THREAD, file: str = "/job/train.py"
) -> Any:
    return {"ph": phase, "ts": ts, "tid": thread, "name": name, "pid": PID, "args": {"filename": file, "line": line}}


def samples(*events: Any, living: frozenset[int] = frozenset({PID}), seen_us: dict[int, int] | None = None) -> Samples:
    return Samples(Anchor(5_000_000_000, 300_000), list(events), 7, 1, living, seen_us or {})


def thread(phase: str, ts: int, text: str = f"thread ({PID}): MainThread", thread: int = PYTHON_THREAD) -> Any:
    return event(phase, ts, text, 0, thread, "")


ONE_STEP = (
    thread("B", 100), event("B", 100, "main", 5), event("B", 100, "forward", 9), event("E", 130, "forward", 9),
    event("B", 130, "backward", 7), event("E", 190, "backward", 7), event("E", 200, "main", 5), thread("E", 200),
)  # fmt: skip


def test_frames_become_calls_that_nest() -> None:
    found = read_calls(samples(*ONE_STEP), PID)
    assert found.calls == [
        Call(PID, 1, "main", "/job/train.py", 5, 100, 200),
        Call(PID, 2, "forward", "/job/train.py", 9, 100, 130),
        Call(PID, 2, "backward", "/job/train.py", 7, 130, 190),
    ]
    assert found.threads == {PID: "MainThread"}


def test_the_time_of_a_stack_is_its_own() -> None:
    assert read_calls(samples(*ONE_STEP), PID).stack_us == {
        "MainThread;main (train.py:5)": 10,
        "MainThread;main (train.py:5);forward (train.py:9)": 30,
        "MainThread;main (train.py:5);backward (train.py:7)": 60,
    }


@pytest.mark.parametrize(
    ("text", "tid", "name"),
    [
        (f"thread ({PID})", PID, "MainThread"),
        ("thread (57): pin_memory", 57, "pin_memory"),
        ("thread (57)", 57, "thread 57"),
        ("thread (0x7F0011223344): MainThread", PID, "MainThread"),
        ("thread (0x7F0011223344): other", PYTHON_THREAD % 2**31, "other"),
        ("no such form", 0, "no such form"),
    ],
)
def test_a_thread_has_its_number_and_its_name(text: str, tid: int, name: str) -> None:
    assert read_calls(samples(thread("B", 0, text), thread("E", 9, text)), PID).threads == {tid: name}


def test_a_thread_that_has_ended_does_not_last_to_the_end_of_the_chunk() -> None:
    ended, short = "thread (51): loader", "thread (52): short"
    events = (
        thread("B", 0), thread("B", 10, ended, 1), event("B", 10, "load", thread=1),
        thread("B", 20, short, 2), event("B", 30, "blink", thread=2),
        event("E", 900, "load", thread=1), thread("E", 900, ended, 1),
        event("E", 900, "blink", thread=2), thread("E", 900, short, 2), thread("E", 900),
    )  # fmt: skip
    found = read_calls(samples(*events, seen_us={PID: 890, 51: 400}), PID)
    assert [(call.name, call.begin_us, call.end_us) for call in found.calls] == [("load", 10, 400), ("blink", 30, 30)]
    assert found.stack_us["MainThread"] == 900


def test_our_own_threads_are_not_shown() -> None:
    ours = [thread("B", 0, "thread (77): shardprof-housekeeper", 1), event("B", 0, "wait", thread=1)]
    ended = [event("E", 50, "wait", thread=1), thread("E", 50, "thread (77): shardprof-housekeeper", 1)]
    theirs = [thread("B", 0), event("B", 0, "train"), event("E", 60, "train"), thread("E", 60)]
    calls = read_calls(samples(*ours, *ended, *theirs), PID)
    assert [call.name for call in calls.calls] == ["train"]
    assert (list(calls.threads), list(calls.stack_us)) == ([PID], ["MainThread;train (train.py:1)"])


def test_an_end_without_a_beginning_is_left_out() -> None:
    assert read_calls(samples(event("E", 5, "main"), *ONE_STEP), PID) == read_calls(samples(*ONE_STEP), PID)


def test_files_of_libraries_are_named_from_the_package_on() -> None:
    files = {
        "/opt/env/lib/python3.12/site-packages/torch/nn/modules/linear.py": "torch/nn/modules/linear.py",
        "/opt/env/lib/python3.12/queue.py": "queue.py",
        "/home/someone/secret-project/train.py": "train.py",
        "<frozen importlib._bootstrap>": "<frozen importlib._bootstrap>",
    }
    for file, short in files.items():
        seen = samples(thread("B", 0), event("B", 0, "f", 3, file=file), event("E", 9, "f", file=file), thread("E", 9))
        assert f"MainThread;f ({short}:3)" in read_calls(seen, PID).stack_us


HOSTILE = '</title><script>alert(1)</script> ]]> & " ; \n \x00 \x1b[31m \ud800 \uffff'


def test_hostile_names_stay_text() -> None:
    seen = samples(thread("B", 0), event("B", 0, HOSTILE), event("E", 1_000_000, HOSTILE), thread("E", 1_000_000))
    stack_us = read_calls(seen, PID).stack_us
    lines = flame_graph.folded(stack_us).splitlines()
    assert len(lines) == 1
    assert lines[0].count(";") == 1
    picture = ElementTree.fromstring(flame_graph.svg(HOSTILE, stack_us).encode())
    assert {element.tag.rpartition("}")[2] for element in picture.iter()} == {"svg", "g", "rect", "text", "title"}


def boxes(stack_us: dict[str, int]) -> dict[str, tuple[float, float, float]]:
    """x, y and width of each box by what it tells."""
    picture = ElementTree.fromstring(flame_graph.svg("", stack_us))
    found = {}
    for group in picture.iter("{http://www.w3.org/2000/svg}g"):
        title, box = group[0].text or "", group[1]
        found[title.rpartition(":")[0]] = (
            float(box.get("x", "")),
            float(box.get("y", "")),
            float(box.get("width", "")),
        )
    return found


def test_the_picture_has_a_graph_a_thread_on_one_scale() -> None:
    found = boxes({"pin_memory;get": 400, "MainThread;f;g": 600, "MainThread;f": 200, "MainThread": 200})
    (_, main_y, main_width), (_, other_y, other_width) = found["MainThread"], found["pin_memory"]
    assert main_y < other_y
    assert other_width == pytest.approx(main_width * 0.4, rel=0.01)
    assert found["f"][2] == pytest.approx(main_width * 0.8, rel=0.01)
    assert found["f"][1] > main_y
    assert found["g"][0] == found["f"][0]


def test_what_is_too_narrow_to_be_seen_is_not_drawn() -> None:
    many = {f"MainThread;f{index}": 1 for index in range(10_000)}
    assert set(boxes({**many, "MainThread;seen": 10_000})) == {"MainThread", "seen"}


def test_a_stack_of_any_depth_can_be_drawn() -> None:
    deep = ";".join(f"f{depth}" for depth in range(3000))
    assert len(boxes({deep: 1000})) == 3000


def test_a_gzip_file_is_whole_after_each_part(tmp_path: Path) -> None:
    file, grown = tmp_path / "a.gz", GrowingGzip()
    for count in range(1, 5):
        grown.extend(file, b"part ", b"." * (50 - 10 * count))  # an ending that shrinks
        assert gzip.decompress(file.read_bytes()) == b"part " * count + b"." * (50 - 10 * count)


def test_a_gzip_file_that_was_moved_goes_on(tmp_path: Path) -> None:
    file, grown = tmp_path / "a.gz", GrowingGzip()
    grown.extend(file, b"one ", b"end")
    grown.extend(file.rename(tmp_path / "b.gz"), b"two ", b"end")
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == b"one two end"


@contextlib.contextmanager
def full_disk_after(size_bytes: int) -> Iterator[None]:
    """No file may become larger: as on a full disk, a write takes what fits, the next one fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("chunks_before", [0, 1])
def test_a_chunk_for_which_there_is_no_room_leaves_the_trace_whole(tmp_path: Path, chunks_before: int) -> None:
    files = StackFiles(tmp_path, 3, PID)
    for _ in range(chunks_before):
        files.add(samples(*ONE_STEP))
    room = (tmp_path / STACKS_FILE).stat().st_size + 20 if chunks_before else 20
    with full_disk_after(room), pytest.raises(OSError, match="large"):
        files.add(samples(*ONE_STEP * 50))
    if chunks_before:
        assert len(read_trace(tmp_path)["shardprof"]["stacks"]["chunks"]) == chunks_before
    files.add(samples(*ONE_STEP))
    assert len(read_trace(tmp_path)["shardprof"]["stacks"]["chunks"]) == chunks_before + 1


def rank_record(pid: int) -> RankRecord:
    return RankRecord(
        rank=3, world_size=4, local_rank=3, host="a", pid=pid, device="cpu", started_ns=1, versions={}
    )  # fmt: skip


def read_trace(folder: Path) -> Any:
    return json.loads(gzip.decompress((folder / STACKS_FILE).read_bytes()))


def test_the_trace_is_on_the_runs_clock_and_says_how_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)
    monkeypatch.setattr("time.monotonic_ns", lambda: 0)
    files = StackFiles(tmp_path, 3, PID)
    files.add(samples(*ONE_STEP))
    files.add(samples())
    files.add(Samples(Anchor(35_000_000_000, 900_000), list(ONE_STEP), 5, 0, frozenset({PID}), {}))
    trace = read_trace(tmp_path)
    begins_ns = [trace["baseTimeNanoseconds"] + 1000 * call["ts"] for call in trace["traceEvents"] if call["ph"] == "X"]
    first_ns = 1_700_000_005_000_000_000 - 1000 * INTERVAL_US
    assert begins_ns[:3] == [first_ns + 100_000, first_ns + 100_000, first_ns + 130_000]
    assert begins_ns[3:] == [begin_ns + 30_000_000_000 for begin_ns in begins_ns[:3]]
    assert {call["pid"] for call in trace["traceEvents"]} == {PID}
    about = trace["shardprof"]["stacks"]
    assert (about["rank"], about["samples"], about["errors"]) == (3, 12, 1)
    assert about["anchor_uncertainty_ns"] == 900_000
    assert [chunk["begin_ns"] for chunk in about["chunks"]] == [begins_ns[0], begins_ns[3]]


def test_the_flame_graph_is_of_all_chunks(tmp_path: Path) -> None:
    files = StackFiles(tmp_path, 3, PID)
    files.add(samples(*ONE_STEP))
    files.add(samples(*ONE_STEP))
    assert "MainThread;main (train.py:5);forward (train.py:9) 60\n" in (tmp_path / stack_files.FOLDED_FILE).read_text()
    assert "0.000 s</title>" in (tmp_path / stack_files.PICTURE_FILE).read_text()


def test_stacks_without_number_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_files, "MOST_STACKS", 2)
    files = StackFiles(tmp_path, 3, PID)
    files.add(samples(*ONE_STEP))
    lines = (tmp_path / stack_files.FOLDED_FILE).read_text().splitlines()
    times = Counter({line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines})
    assert times["MainThread;(further stacks)"] > 0
    assert times.total() == 100


def test_what_comes_after_a_restart_belongs_to_the_attempt_before(tmp_path: Path) -> None:
    write_whole(tmp_path / RANK_FILE, rank_record(PID))
    files = StackFiles(tmp_path, 3, PID)
    files.add(samples(*ONE_STEP))
    aside = tmp_path / "attempt-0"
    aside.mkdir()
    for path in [path for path in tmp_path.iterdir() if path.is_file()]:
        path.rename(aside / path.name)
    write_whole(tmp_path / RANK_FILE, rank_record(PID + 1))
    files.add(samples(*ONE_STEP))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [RANK_FILE]
    assert len(read_trace(aside)["shardprof"]["stacks"]["chunks"]) == 2


def test_a_week_has_a_bounded_number_of_chunks() -> None:
    elapsed_s, chunks, whole = 0.0, 0, 0
    while elapsed_s < 7 * 86400:
        chunks += 1
        elapsed_s += CHUNK_S
        whole += pause_s(elapsed_s) == 0
        elapsed_s += pause_s(elapsed_s)
    assert chunks < 100
    assert whole == WHOLE_S / CHUNK_S


def test_reading_can_be_permitted_anywhere() -> None:
    permit_reading(1)
