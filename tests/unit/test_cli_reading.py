"""What `shardprof report` takes to say how traces are read: limits, ranks by expression, help, Ctrl-C."""

from __future__ import annotations

import gzip
import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from shardprof import cli
from shardprof.cli import _reading
from tests.conftest import Trace, distributed_info

CHECKOUT = Path(__file__).parents[2]
TIMEOUT_S = 60
MIB = 1 << 20

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `shardprof report`; its exit code, and what it wrote to stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main(["report", *map(str, arguments)])
        except SystemExit as stopped:  # argparse's way out
            code = int(stopped.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def made(rank: int | None = 0, kernels: int = 1) -> Trace:
    trace = Trace(distributed_info(rank, [0, 1, 2, 3]) if rank is not None else {}).step(1, 0, 100 * kernels)
    for i in range(kernels):
        trace.launch(i, 100 * i + 5).kernel("gemm", 100 * i + 10, 100 * i + 20, correlation=i)
    return trace


def ranks_of(answer: tuple[int, str, str]) -> list[int]:
    code, out, err = answer
    assert (code, err) == (0, "")
    return [rank["rank"] for rank in json.loads(out)["ranks"]]


def refused(answer: tuple[int, str, str]) -> str:
    """The one line with which it stopped."""
    code, out, err = answer
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("shardprof: ")
    return line


# Limits.


@pytest.mark.parametrize(
    "options", [["--jobs", "1"], ["--jobs", "64"], ["--memory", "1G"], ["--jobs=2", "--memory=1.5gib"]]
)
def test_jobs_and_memory_change_no_figure(options: list[str], tmp_path: Path, call: Call) -> None:
    for rank in range(4):
        made(rank).write(tmp_path / f"{rank}.json.gz")
    plain = call(tmp_path, "--format", "json")
    assert ranks_of(plain) == [0, 1, 2, 3]
    assert call(tmp_path, *options, "--format", "json") == plain


def test_a_trace_with_more_events_than_fit_is_refused(tmp_path: Path, call: Call) -> None:
    file = made(kernels=1000).write(tmp_path / "trace.json")
    line = refused(call(file, "--memory", "100K"))
    assert "events" in line
    assert "--memory" in line
    assert call(file, "--memory", "1M")[0] == 0


def bomb(packing: str, filling: bytes = b'{"ph": "M"},') -> bytes:
    """A trace's beginning, then a gigabyte of little: in frames of their own, which is quicker made."""
    pack: Callable[[bytes], bytes] = gzip.compress if packing == "gz" else zstandard.ZstdCompressor().compress
    return pack(b'{"traceEvents": [') + 64 * pack(filling * (16 * MIB // len(filling)))


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_bomb_is_refused(packing: str, tmp_path: Path, call: Call) -> None:
    file = tmp_path / f"bomb.json.{packing}"
    file.write_bytes(bomb(packing))
    assert file.stat().st_size < 4 * MIB
    line = refused(call(file))
    assert "longer than 512 MiB" in line
    assert "--max-size" in line
    assert "longer than 64 MiB" in refused(call(file, "--max-size", "64M"))


def test_a_bomb_of_nothing_is_refused(tmp_path: Path, call: Call) -> None:
    file = tmp_path / "bomb.json.gz"
    file.write_bytes(bomb("gz", filling=b" "))
    assert "larger than 64 MiB" in refused(call(file, "--max-size", "100G"))


def test_a_bomb_among_traces_costs_itself(tmp_path: Path, call: Call) -> None:
    made(1).write(tmp_path / "a.json")
    (tmp_path / "bomb.json.gz").write_bytes(bomb("gz"))
    code, out, _ = call(tmp_path, "--max-size", "32M", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert [rank["rank"] for rank in found["ranks"]] == [1]
    (doubt,) = [doubt for doubt in found["quality"] if doubt["code"] == "unreadable_trace"]
    assert "bomb.json.gz" in doubt["message"]


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_the_limit_is_of_the_text(suffix: str, tmp_path: Path, call: Call) -> None:
    file = made(kernels=100).write(tmp_path / f"trace{suffix}")
    size = len(made(kernels=100).text())
    assert call(file, "--max-size", str(size))[0] == 0
    assert "longer than" in refused(call(file, "--max-size", str(size - 1)))


# Ranks by expression.


@pytest.mark.parametrize("regex", [r"gpu(\d+)", r"node(\d)_gpu(?P<rank>\d+)", r"(?<=gpu)\d+"])
def test_an_expression_tells_ranks(regex: str, tmp_path: Path, call: Call) -> None:
    for rank in (6, 2, 11):
        made(None).write(tmp_path / f"node0_gpu{rank}.json.gz")
    assert ranks_of(call(tmp_path, "--format", "json")) == [0, 1, 2]
    assert ranks_of(call(tmp_path, "--rank-regex", regex, "--format", "json")) == [2, 6, 11]


def test_an_expression_is_searched_for_in_the_folders_too(tmp_path: Path, call: Call) -> None:
    for rank in (3, 5):
        made(None).write(tmp_path / f"gpu{rank}" / "trace.json")
    assert ranks_of(call(tmp_path, "--rank-regex", "gpu([0-9]+)/", "--format", "json")) == [3, 5]


def test_what_a_trace_says_itself_counts_more_than_an_expression(tmp_path: Path, call: Call) -> None:
    made(1).write(tmp_path / "gpu3.json")
    made(None).write(tmp_path / "rank2_gpu3.json")
    assert ranks_of(call(tmp_path, "--rank-regex", r"gpu(\d+)", "--format", "json")) == [1, 2]


def test_an_expression_that_gives_two_files_one_rank(tmp_path: Path, call: Call) -> None:
    for name in ("gpu3-a.json", "gpu3-b.json"):
        made(None).write(tmp_path / name)
    assert "both say that they are rank 3" in refused(call(tmp_path, "--rank-regex", r"gpu(\d+)"))


# Values.


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1), ("500", 500), ("4k", 4096), ("4K", 4096), ("4KB", 4096), ("4 KiB", 4096), ("1.5M", 3 * MIB // 2),
        ("8G", 8 << 30), ("2t", 2 << 40), (" 8G ", 8 << 30), ("100b", 100), ("0.5k", 512),
    ],
)  # fmt: skip
def test_sizes(text: str, size_bytes: int) -> None:
    assert _reading._size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "arguments",
    [
        *[[option, value] for option in ("--memory", "--max-size") for value in (
            "", "0", "0G", "-1", "G", "8X", "8 G G", "1e9", "nan", "inf", "0.1", "9" * 400, "9" * 20, "8388608T")],
        *[["--jobs", value] for value in ("", "0", "-1", "1.5", "two", "²", "9" * 5000)],
        *[["--rank-regex", value] for value in (
            "(", "[", "*", "(?P<rank", "a{99999999999999}", "(" * 9000 + ")" * 9000)],
        ["--format", "nonsense"],
        ["--job", "x"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)  # fmt: skip
def test_values_that_make_no_sense(arguments: list[str], tmp_path: Path, call: Call) -> None:
    code, out, err = call(made().write(tmp_path / "trace.json"), *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("shardprof report: error: argument --")


def test_help_says_what_can_be_said(call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for word in ("--jobs N", "--memory SIZE", "--max-size SIZE", "--rank-regex REGEX", "--format", "s3://", "512M",
                 "SHARDPROF_CACHE=0", ".zst", "gpu(\\d+)"):  # fmt: skip
        assert word in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    "name", ["a b.json", "ünï cödé.json.gz", "-dash.json", "new\nline.json", "'quoted\".json", "#1?.json"]
)
def test_names_of_any_kind(name: str, tmp_path: Path, call: Call) -> None:
    file = made(2).write(tmp_path / "a folder" / name)
    answer = call(file, "--format", "json")
    assert ranks_of(answer) == [2]
    assert json.loads(answer[1])["source"]["paths"] == [str(file)]
    assert ranks_of(call(file.parent, "--format", "json")) == [2]


# Ctrl-C.


def test_ctrl_c_ends_reading_at_once_and_in_silence() -> None:
    asked, released = threading.Event(), threading.Event()

    class Stalled(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b'{"traceEvents": [')
            asked.set()
            released.wait()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
            """Nothing on stderr."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalled) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/trace.json"
        command = [sys.executable, "-m", "shardprof", "report", url]
        reading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT)
        try:
            assert asked.wait(TIMEOUT_S)
            reading.send_signal(signal.SIGINT)
            out, err = reading.communicate(timeout=TIMEOUT_S)
            assert (reading.returncode, out, err) == (130, b"", b"")
        finally:
            reading.kill()
            released.set()
            server.shutdown()
            thread.join()
