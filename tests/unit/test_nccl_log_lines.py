"""Lines of NCCL's log: through every launcher's prefix, torn by other ranks' lines, with and without a time."""

from __future__ import annotations

import io
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.nccl.log_lines import INFO, MOST_LINE_BYTES, PLAIN, WARN, Line, line_of, lines_of

MESSAGE = "Using network IB"
PLACE = "node-1:4711:4712 [3] "
LAUNCHERS = {
    "": ("", None),
    "[rank5]:": ("[rank5]:", 5),
    "[default0]:": ("[default0]:", None),
    "[1,3]<stdout>:": ("[1,3]<stdout>:", 3),
    "[1,3]<stderr>:": ("[1,3]<stderr>:", 3),
    "[7] ": ("[7]", None),
    "2: ": ("2", 2),
    "node-1: ": ("", None),
    "(RayTrainWorker pid=71, ip=10.0.0.4) ": ("(RayTrainWorker pid=71, ip=10.0.0.4)", None),
    "\x1b[36m(RayWorker pid=71)\x1b[0m ": ("(RayWorker pid=71)", None),
}
TIMES_NS = {
    "": None,
    "[2026-01-01 10:00:00] ": None,
    "[1767225600.123456789] ": 1_767_225_600_123_456_789,
    "[1767225600.123] ": 1_767_225_600_123_000_000,
    "1767225600 ": 1_767_225_600_000_000_000,
    "2026-01-01T00:00:00.5Z ": 1_767_225_600_500_000_000,
    "[2026-01-01 01:00:00+01:00] ": 1_767_225_600_000_000_000,
    "[2026-01-01T00:00:00,000001 +0000] ": 1_767_225_600_000_001_000,
    "[10:00:00.123456] ": None,
    "Thu Jan  1 10:00:00 2026 ": None,
    "[2026-99-01 10:00:00Z] ": None,
    "[9999-01-01 10:00:00Z] ": None,
    "[9999999999.1] ": None,
}


@pytest.mark.parametrize(("launcher", "time"), list(product(LAUNCHERS, TIMES_NS)))
def test_a_line_is_read_behind_each_launcher_and_each_time(launcher: str, time: str) -> None:
    (line,) = lines_of(io.BytesIO(f"{launcher}{time}{PLACE}NCCL INFO {MESSAGE}\n".encode()))
    assert (line.level, line.message) == (INFO, MESSAGE)
    assert (line.host, line.pid, line.tid) == ("node-1", 4711, 4712)
    assert (line.label, line.rank) == LAUNCHERS[launcher]
    assert line.time_ns == TIMES_NS[time]


def test_launchers_may_start_each_other() -> None:
    line = line_of(f"2: [1,3]<stdout>:[default0]:[1767225600.5] {PLACE}NCCL INFO {MESSAGE}")
    assert line.label == "2 [1,3]<stdout>: [default0]:"
    assert (line.host, line.rank, line.time_ns) == ("node-1", 2, 1_767_225_600_500_000_000)


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("h:1:1 [0] transport/net.cc:12 NCCL WARN gone", WARN, "gone"),
        ("h:1:1 [0] src/misc/socket.cc:58 (socketProgress) NCCL WARN gone", WARN, "gone"),
        ("[2026-01-01 10:00:00] h:1:1 [0] init.cc:9 NCCL WARN gone", WARN, "gone"),
        ("h:1:1 [0] 12.345678 initTransports:99 NCCL TRACE x", "TRACE", "x"),
        ("h:1:1 NCCL CALL ncclGroupStart()", "CALL", "ncclGroupStart()"),
        ("h:1:1 [0] NCCL INFO trailing  ", INFO, "trailing"),
    ],
)
def test_every_level_is_told_with_its_place(text: str, level: str, message: str) -> None:
    line = line_of(text)
    assert (line.level, line.message, line.host, line.pid) == (level, message, "h", 1)


def test_without_a_prefix_the_mark_is_enough() -> None:
    for text in (f"NCCL INFO {MESSAGE}", f"[0] NCCL INFO {MESSAGE}", f"2026-01-01 10:11:12 NCCL INFO {MESSAGE}"):
        assert line_of(text)._replace(label="") == Line(level=INFO, message=MESSAGE)


def test_what_names_nccl_without_its_mark_is_plain() -> None:
    assert line_of("[1,0]<stdout>:NCCL version 2.28.9+cuda13.0").level == PLAIN
    assert list(lines_of(io.BytesIO(b"loss 0.3\nstep 2\n"))) == []


def test_a_torn_line_is_left_out_and_counted() -> None:
    line = line_of(f"a:1:1 [0] NCCL INFO Chann{PLACE}NCCL INFO {MESSAGE}")
    assert (line.message, line.pid, line.torn) == (MESSAGE, 4711, 1)


def test_ends_of_lines_and_progress_bars_do_not_matter() -> None:
    log = f"{PLACE}NCCL INFO a\r\n\r\nepoch 1\r{PLACE}NCCL INFO b\repoch 2\n{PLACE}NCCL INFO c"
    assert [line.message for line in lines_of(io.BytesIO(log.encode())) if line.level == INFO] == ["a", "b", "c"]


def test_a_line_without_end_is_read_in_pieces() -> None:
    class Endless(io.RawIOBase):
        asked: int = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= MOST_LINE_BYTES
            self.asked += 1
            return b"NCCL INFO x " * (size // 12) if self.asked < 100 else b""

    assert sum(1 for _ in lines_of(Endless())) == 99


WORDS = st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=30).filter(lambda t: "CCL" not in t)


@st.composite
def torn_logs(draw: st.DrawFn) -> tuple[str, list[tuple[int, str]]]:
    """What several ranks write into one pipe: a line is whole, or is cut by others' and goes on after them."""
    parts, whole = [], []
    for number in range(draw(st.integers(1, 12))):
        pid = draw(st.integers(1, 3))
        line = f"host{pid}:{pid}:{pid} [0] NCCL INFO message {number} end"
        if draw(st.booleans()):
            parts.append(line + "\n")
            whole.append((pid, f"message {number} end"))
        else:
            cut = draw(st.integers(1, len(line) - 1))
            parts.append(line[:cut])
            inner = f"host9:9:9 [0] NCCL INFO inner {number} end"
            whole.append((9, f"inner {number} end"))
            parts.append(f"{inner}\n{line[cut:]}\n")
    return "".join(parts), whole


@given(torn_logs())
def test_every_whole_line_of_a_torn_log_is_found(torn: tuple[str, list[tuple[int, str]]]) -> None:
    text, whole = torn
    found = [(line.pid, line.message) for line in lines_of(io.BytesIO(text.encode())) if line.level == INFO]
    assert [line for line in found if line in whole] == whole


@given(st.binary(max_size=400), st.binary(max_size=60))
def test_no_bytes_are_an_error(junk: bytes, tail: bytes) -> None:
    for data in (junk, b"h:1:1 [0] NCCL INFO " + junk, junk + b"NCCL WARN " + tail, b"NCCL version " + junk):
        for line in lines_of(io.BytesIO(data)):
            assert line.time_ns is None or abs(line.time_ns) < 1 << 63


@given(WORDS, WORDS)
def test_what_stands_around_a_line_does_not_change_it(lead: str, message: str) -> None:
    line = line_of(f"{lead} {PLACE}NCCL INFO {message}")
    assert (line.host, line.pid, line.message) == ("node-1", 4711, message.rstrip())
