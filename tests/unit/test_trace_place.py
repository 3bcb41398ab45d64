"""The two lines that are overwritten in place: where a rank is, and what it is asked to capture."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprof.trace.place import Place, PlaceWriter, read_place
from shardprof.trace.request import Request, RequestReader, make_request_file, read_request, write_request

HERE = Place(step=123_456_789, phase="optimizer", since_ns=1_800_000_000_123_456_789, capture="recording")
THERE = Place(step=7, phase="data", since_ns=1_800_000_001_000_000_000, capture="far")


def test_a_rank_is_where_it_said_last(tmp_path: Path) -> None:
    writer = PlaceWriter(tmp_path / "place")
    assert read_place(tmp_path / "place") is None
    for place in (HERE, THERE, HERE):
        writer.put(place)
        assert read_place(tmp_path / "place") == place


@pytest.mark.parametrize("text", ["", "\n", "1 data", "x data 5 far", "\0" * 96])
def test_what_is_no_place_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "place").write_text(text)
    assert read_place(tmp_path / "place") is None


def test_a_disk_that_is_full_silences_the_writer(tmp_path: Path) -> None:
    (tmp_path / "place").symlink_to("/dev/full")
    writer = PlaceWriter(tmp_path / "place")
    writer.put(HERE)
    writer.put(THERE)


def test_a_request_is_seen_once(tmp_path: Path) -> None:
    make_request_file(tmp_path)
    reader = RequestReader(tmp_path)
    assert reader.new_request() is None
    write_request(tmp_path, Request(1, 100, 5))
    assert read_request(tmp_path) == Request(1, 100, 5)
    assert reader.new_request() == Request(1, 100, 5)
    assert reader.new_request() is None
    write_request(tmp_path, Request(2, 100, 5))
    assert reader.new_request() == Request(2, 100, 5)


def test_a_request_from_before_the_rank_began_is_none(tmp_path: Path) -> None:
    write_request(tmp_path, Request(1, 100, 5))
    assert RequestReader(tmp_path).new_request() is None


def test_a_request_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    make_request_file(tmp_path)
    reader = RequestReader(tmp_path)
    write_request(tmp_path, Request(1, 100, 5))
    whole = (tmp_path / "request").read_bytes()
    for torn in (b"", whole[:4], b"1 100 5 107".ljust(95) + b"\n", b"1 100\n"):
        (tmp_path / "request").write_bytes(torn)
        assert reader.new_request() is None
    (tmp_path / "request").write_bytes(whole)
    assert reader.new_request() == Request(1, 100, 5)


def test_a_rank_without_the_run_folder_is_asked_nothing(tmp_path: Path) -> None:
    assert RequestReader(tmp_path / "elsewhere").new_request() is None
