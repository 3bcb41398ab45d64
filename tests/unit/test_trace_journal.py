"""A file of lines that never outgrows its bound, whatever happens to its writer."""

from __future__ import annotations

import itertools
import os
import resource
from pathlib import Path

import pytest

from shardprof.trace.journal import SEGMENTS, SEGMENTS_KEPT_WHOLE, Journal, read_text_lines, segments

LINE = "%09d"
LINE_BYTES = 10
BOUND = 100 * SEGMENTS * LINE_BYTES


def numbers(path: Path) -> list[int]:
    return [int(line) for line in read_text_lines(path)]


def write(path: Path, count: int, first: int = 0) -> None:
    with Journal(path, BOUND) as journal:
        for number in range(first, first + count):
            journal.append(LINE % number)


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1599])
def test_what_fits_is_whole(tmp_path: Path, count: int) -> None:
    write(tmp_path / "steps.jsonl", count)
    assert numbers(tmp_path / "steps.jsonl") == list(range(count))


@pytest.mark.parametrize("count", [1600, 5_000, 40_000, 163_457])
def test_what_does_not_is_thinned_evenly_and_never_beyond_the_bound(tmp_path: Path, count: int) -> None:
    path = tmp_path / "steps.jsonl"
    with Journal(path, BOUND) as journal:
        for number in range(count):
            journal.append(LINE % number)
            if number % 997 == 0:
                assert size(path) <= BOUND
    left = numbers(path)
    assert left == sorted(set(left))
    assert left[0] == 0
    assert left[-1] == count - 1
    whole = 100 * (SEGMENTS_KEPT_WHOLE - 1)
    assert left[-whole:] == list(range(count - whole, count)), "what is new is whole"
    gaps = [after - before for before, after in itertools.pairwise(left)]
    assert max(gaps) <= 8 * count * LINE_BYTES / BOUND, "no part of the training is left out"


def test_a_new_writer_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    for first in range(0, 5_000, 50):
        write(path, 50, first)
    assert size(path) <= BOUND
    assert numbers(path)[-1] == 4_999
    assert len({segment.number for segment in segments(path)}) == len(segments(path))


def test_other_files_are_no_parts_of_it(tmp_path: Path) -> None:
    write(tmp_path / "steps.jsonl", 150)
    for name in ("steps.jsonl.bak", "steps.x.1.jsonl", ".steps.00009.1.jsonl", "counters.00001.1.jsonl"):
        (tmp_path / name).write_text("no\n")
    assert numbers(tmp_path / "steps.jsonl") == list(range(150))


def test_a_line_that_was_torn_takes_no_other_with_it(tmp_path: Path) -> None:
    """The file may grow to 25 bytes for a while, as on a full disk."""
    path = tmp_path / "steps.jsonl"
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        failures = 0
        with Journal(path, BOUND) as journal:
            for number in range(6):
                bound = 25 if number < 4 else resource.RLIM_INFINITY
                resource.setrlimit(resource.RLIMIT_FSIZE, (bound, resource.RLIM_INFINITY))
                try:
                    journal.append(LINE % number)
                except OSError:
                    failures += 1
        os._exit(failures)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert list(read_text_lines(path)) == ["000000000\n", "000000001\n", "00000\n", "000000004\n", "000000005\n"]
