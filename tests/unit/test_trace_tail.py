"""A journal that is followed while it is written, put aside and thinned gives every line, once, in order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.journal import SEGMENTS, Journal, read_text_lines
from shardprof.trace.tail import Tail

LINES_OF_A_SEGMENT = 4
BOUND = SEGMENTS * LINES_OF_A_SEGMENT * len("000000\n")


def append(path: Path, numbers: range) -> None:
    with Journal(path, BOUND) as journal:
        for number in numbers:
            journal.append(f"{number:06}")


def test_a_file_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "steps.jsonl")
    assert tail.lines() == []
    append(tmp_path / "steps.jsonl", range(3))
    assert tail.lines() == ["000000", "000001", "000002"]
    assert tail.lines() == []


def test_a_line_comes_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    tail = Tail(path)
    path.write_bytes("one\ntw\u00e9".encode()[:-1])
    assert tail.lines() == ["one"]
    path.write_bytes("one\ntw\u00e9\nthree\n".encode())
    assert tail.lines() == ["tw\u00e9", "three"]


@given(bursts=st.lists(st.integers(min_value=0, max_value=3 * LINES_OF_A_SEGMENT), max_size=40))
def test_who_looks_often_enough_gets_every_line_once(bursts: list[int]) -> None:
    """Thinning begins 12 segments back: between two looks fewer than that are filled."""
    with tempfile.TemporaryDirectory() as folder:
        path, written, seen = Path(folder) / "steps.jsonl", 0, list[str]()
        tail = Tail(path)
        for burst in bursts:
            append(path, range(written, written + burst))
            written += burst
            seen += tail.lines()
        assert seen == [f"{number:06}" for number in range(written)]


@given(bursts=st.lists(st.integers(min_value=0, max_value=100), max_size=6))
def test_who_looks_rarely_gets_what_is_left(bursts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, written, seen = Path(folder) / "steps.jsonl", 0, list[str]()
        tail = Tail(path)
        for burst in bursts:
            append(path, range(written, written + burst))
            written += burst
            new = tail.lines()
            assert new == sorted(new)
            seen += new
        left = {line.rstrip() for line in read_text_lines(path)}
        assert left <= set(seen) <= {f"{number:06}" for number in range(written)}
