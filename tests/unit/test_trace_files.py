"""Traces behind URLs: a real web server, file:// and memory://; folders, packings, names, and what goes wrong."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest
import zstandard

from shardprof.trace.files import RemoteFile, opened, remote_files
from tests.conftest import Trace, distributed_info

Report = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Gives files of a folder; those whose path says so by half, or not at all."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "forbidden" in self.path:
            self.send_error(403)
        elif "breaks-off" in self.path:
            self._break_off()
        else:
            with suppress(ConnectionError):  # who asks whether a file is there does not wait for the whole of it
                super().do_GET()

    def _break_off(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Nothing on stderr."""


@pytest.fixture
def asked() -> list[str]:
    """The paths that were asked for with GET."""
    return []


@pytest.fixture
def server(tmp_path: Path, asked: list[str]) -> Iterator[str]:
    """The address of a web server of the files in tmp_path."""

    class Here(Handler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

    Here.asked = asked
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def made(rank: int | None = 0, kernels: int = 3) -> Trace:
    trace = Trace(distributed_info(rank, [0, 1, 2, 3]) if rank is not None else {})
    trace.step(1, 0, 20 * kernels)
    for i in range(kernels):
        trace.launch(i, 20 * i).kernel(f"gemm {i}", 20 * i + 5, 20 * i + 15, correlation=i)
    return trace


def without_paths(report: dict[str, Any]) -> dict[str, Any]:
    return {**report, "source": {**report["source"], "paths": []}}


def ranks_of(report: dict[str, Any]) -> list[int]:
    return [rank["rank"] for rank in report["ranks"]]


def codes_of(report: dict[str, Any]) -> set[str]:
    return {doubt["code"] for doubt in report["quality"]}


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".json": bytes,
    ".json.gz": gzip.compress,
    ".json.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


# One file.


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("where", ["http", "file", "memory"])
def test_a_trace_is_the_same_from_everywhere(
    where: str, suffix: str, tmp_path: Path, server: str, report: Report
) -> None:
    file = tmp_path / f"trace{suffix}"
    file.write_bytes(PACK[suffix](made(rank=2).text().encode()))
    urls = {"http": f"{server}/{file.name}", "file": file.as_uri(), "memory": f"memory://same/{file.name}"}
    fsspec.filesystem("memory").pipe(f"/same/{file.name}", file.read_bytes())
    found = report(urls[where])
    assert without_paths(found) == without_paths(report(file))
    assert found["source"]["paths"] == [urls[where]]
    assert ranks_of(found) == [2]


def test_a_large_trace_comes_from_a_server_that_gives_no_parts(
    tmp_path: Path, server: str, asked: list[str], report: Report
) -> None:
    made(kernels=60_000).write(tmp_path / "large.json")
    assert (tmp_path / "large.json").stat().st_size > 10 << 20
    assert without_paths(report(f"{server}/large.json")) == without_paths(report(tmp_path / "large.json"))
    assert set(asked) == {"/large.json"}


@pytest.mark.parametrize(
    ("path", "rank"),
    [
        ("rank3_trace.json", 3),
        ("my runs/rank3 of mine.json", 3),
        ("a run%20rank/my rank3.json.gz", 3),
        ("rank_3/trace.json", 3),
        ("host1_gpu3.json", 0),
    ],
)
def test_the_path_in_a_url_tells_the_rank(path: str, rank: int, tmp_path: Path, server: str, report: Report) -> None:
    made(rank=None).write(tmp_path / path)
    quoted = path.replace("%", "%25").replace(" ", "%20")
    assert ranks_of(report(f"{server}/{quoted}")) == [rank]
    assert ranks_of(report(f"{server}/{quoted}?version=rank7&x=/rank9/")) == [rank]
    assert ranks_of(report(f"file://{tmp_path}/{path}")) == [rank]


def test_names_of_other_stores_may_hold_what_is_special_on_the_web(tmp_path: Path, report: Report) -> None:
    made(rank=None).write(tmp_path / "run #2" / "why?" / "rank1.json")
    made(rank=None).write(tmp_path / "run #2" / "why?" / "rank2.json")
    assert ranks_of(report(f"file://{tmp_path}/run #2")) == [1, 2]


def test_an_address_is_shown_without_what_opens_it(tmp_path: Path, server: str, report: Report) -> None:
    made().write(tmp_path / "trace.json")
    host = urlsplit(server).netloc
    found = report(f"http://me:password@{host}/trace.json?X-Signature=abc%2Fdef&n=1")
    assert found["source"]["paths"] == [f"http://...@{host}/trace.json?..."]
    assert "password" not in json.dumps(found)
    assert "Signature" not in json.dumps(found)


# Folders.


@pytest.mark.parametrize("where", ["http", "file", "memory"])
def test_a_folder_is_what_traces_lie_below_it(where: str, tmp_path: Path, server: str, report: Report) -> None:
    folder = tmp_path / "two jobs"
    made(rank=1).write(folder / "b.json.gz")
    made(rank=0).write(folder / "deep" / "a trace.json")
    (folder / "b.json.zst").write_bytes(PACK[".json.zst"](made(rank=2).text().encode()))
    (folder / "notes.txt").write_text("{}")
    (folder / "run.json").write_text("{}")
    (folder / ".shardprof-cache").mkdir()
    (folder / ".shardprof-cache" / "report.json").write_text("{}")
    for file in folder.rglob("*.*"):
        if file.is_file():
            fsspec.filesystem("memory").pipe(f"/jobs/{file.relative_to(folder)}", file.read_bytes())
    urls = {"http": f"{server}/two%20jobs/", "file": folder.as_uri().replace("%20", " "), "memory": "memory://jobs"}
    found = report(urls[where])
    assert ranks_of(found) == [0, 1, 2]
    assert "unreadable_trace" not in codes_of(found)


def test_files_below_a_url_are_in_order(tmp_path: Path) -> None:
    for name in ("c.json", "a.json", "b.json"):
        made().write(tmp_path / name)
    assert [file.name for file in remote_files(RemoteFile(f"file://{tmp_path}"))] == ["a.json", "b.json", "c.json"]


@pytest.mark.parametrize("url", ["memory://nothing-here", "memory://only-notes", "{server}/empty/"])
def test_where_no_traces_are_is_said(url: str, tmp_path: Path, server: str, refusal: Refusal) -> None:
    fsspec.filesystem("memory").pipe("/only-notes/a.txt", b"{}")
    (tmp_path / "empty").mkdir()
    line = refusal(url.format(server=server))
    assert url.format(server=server).rstrip("/") in line


def test_a_trace_on_disk_and_one_far_away_are_one_run(tmp_path: Path, server: str, report: Report) -> None:
    made(rank=0).write(tmp_path / "a.json")
    made(rank=1).write(tmp_path / "b.json")
    assert ranks_of(report(tmp_path / "a.json", f"{server}/b.json")) == [0, 1]


# What goes wrong.


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{server}/gone.json", "it is not there"),
        ("{server}/forbidden.json", "403"),
        ("http://127.0.0.1:1/trace.json", "127.0.0.1:1"),
        ("http:///trace.json", "cannot be read"),
        ("http://[/trace.json", "cannot be read"),
        ("file:///no/such/file.json", "it is not there"),
        ("memory://gone.json", "it is not there"),
        ("nonsense://host/trace.json", "Protocol not known: nonsense"),
        ("://", "cannot be read"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(url: str, reason: str, server: str, refusal: Refusal) -> None:
    line = refusal(url.format(server=server))
    assert reason in line
    assert "cannot be read" in line


def test_signatures_are_in_no_refusal(server: str, refusal: Refusal) -> None:
    assert "secret" not in refusal(f"{server}/forbidden.json?sig=secret")


@pytest.mark.parametrize("suffix", PACK)
def test_a_server_that_breaks_off_is_no_truncated_trace(
    suffix: str, tmp_path: Path, server: str, refusal: Refusal
) -> None:
    file = tmp_path / f"breaks-off{suffix}"
    file.write_bytes(PACK[suffix](made(kernels=2000).text().encode()))
    assert "cannot be read" in refusal(f"{server}/{file.name}")


def test_among_others_a_file_that_breaks_off_costs_itself(tmp_path: Path, server: str, report: Report) -> None:
    made(rank=0).write(tmp_path / "a.json")
    made(rank=1, kernels=2000).write(tmp_path / "breaks-off.json")
    found = report(f"{server}/")
    assert ranks_of(found) == [0]
    assert {"unreadable_trace", "missing_ranks"} <= codes_of(found)


def test_a_web_page_is_no_trace(tmp_path: Path, server: str, refusal: Refusal) -> None:
    (tmp_path / "page.html").write_text("<html><a href='x.json'>a trace</a></html>")
    assert "is not readable as a trace" in refusal(f"{server}/page.html")


def test_who_stops_reading_ends_the_fetching(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(b" " * (8 << 20))
    with opened(RemoteFile(f"file://{tmp_path}/large.json")) as descriptor:
        assert os.read(descriptor, 1) == b" "
    assert not [thread for thread in threading.enumerate() if "_run" in thread.name]


def test_what_a_reader_makes_of_half_a_file_does_not_hide_why_it_is_half(tmp_path: Path) -> None:
    def read() -> None:
        with opened(RemoteFile(f"file://{tmp_path}/gone.json")) as descriptor:
            assert os.read(descriptor, 1) == b""
            raise ValueError("an empty file")

    with pytest.raises(OSError, match="it is not there"):
        read()


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    file = made().write(tmp_path / "trace.json")
    descriptors = Path("/proc/self/fd")
    before = set(descriptors.iterdir())
    for place in (file, RemoteFile(file.as_uri())):
        with opened(place) as descriptor:
            assert os.read(descriptor, 1) == b"{"
    assert set(descriptors.iterdir()) <= before
