"""torchtitan's hook, called as its profiler does: on every rank, with the path of the trace that was just exported."""

from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path

import pytest

from shardprof import torchtitan

TRACES = Path(__file__).parents[2] / "traces" / "fsdp2-vit-2ranks" / "ranks"
WITHIN_S = 120


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where two ranks export, whose traces are not there yet."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    folder = tmp_path / "iteration_10"
    folder.mkdir()
    return [folder / f"rank{rank}_trace.json.gz" for rank in range(2)]


def export(path: Path, rank: int) -> None:
    shutil.copyfile(TRACES / f"{rank:05d}" / "trace.json.gz", path)


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """What the process beside rank 0 says in the end."""
    text, end = "", time.monotonic() + WITHIN_S
    while "shardprof report" not in text and "not explained" not in text:
        assert time.monotonic() < end, text
        time.sleep(0.1)
        text += capfd.readouterr().err
    return text


def test_rank_0_explains_all_once_the_others_are_there(exported: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    export(exported[0], 0)
    torchtitan.trace_post_processor(str(exported[0]))
    export(exported[1], 1)
    torchtitan.trace_post_processor(str(exported[1]))
    first, *lines = said(capfd).splitlines()
    assert first == f"shardprof: {exported[0].parent}"
    assert lines[0] == (
        "  Communication-bound: 27 % of a step waits for all-gather and reduce-scatter; nothing of it is overlapped, "
        "48 % computes."
    )
    assert lines[-1] == f"  more: shardprof report {exported[0].parent}"


def test_what_cannot_be_read_is_a_line(exported: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    for path in exported:
        path.write_bytes(b"no trace")
    torchtitan.trace_post_processor(str(exported[0]))
    (line,) = said(capfd).splitlines()
    assert line.startswith(f"shardprof: {exported[0].parent} is not explained: ")


def test_a_verdict_on_damaged_traces_is_doubted(exported: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    whole = gzip.decompress((TRACES / "00000" / "trace.json.gz").read_bytes())
    exported[0].write_bytes(gzip.compress(whole[: len(whole) * 2 // 3]))
    exported[1].write_bytes(b"no trace")
    torchtitan.trace_post_processor(str(exported[0]))
    *_, doubts, last = said(capfd).splitlines()
    assert doubts.startswith("  doubtful: only 1 of 2 ranks could be read; ")
    assert "rank0_trace.json.gz ends before the trace does" in doubts
    assert "rank1_trace.json.gz" in doubts
    assert last.startswith("  more: ")


def test_other_ranks_and_odd_paths_are_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torchtitan.trace_post_processor(str(tmp_path / "rank12_trace.json"))
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("RANK", "zero")
    torchtitan.trace_post_processor("\0")
    assert "is not explained" in capfd.readouterr().err


def test_all_is_there_when_all_traces_are_and_grow_no_more(exported: list[Path]) -> None:
    traces = torchtitan.Exported(exported[0].parent, 2)
    export(exported[0], 0)
    assert [traces.lacking() for _ in range(2)] == ["only 1 of 2 ranks' traces are there"] * 2
    exported[1].write_bytes(b"part")
    assert traces.lacking() == "traces are still being written"
    export(exported[1], 1)
    assert traces.lacking() == "traces are still being written"
    assert traces.lacking() is None
