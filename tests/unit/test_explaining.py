"""How long a process beside rank 0 waits before it explains a training, and what it says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from shardprof import explaining
from shardprof.errors import ShardprofError
from shardprof.recording import identity

SELF = identity.of_process(os.getpid())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EVERY_S", 0.01)
    monkeypatch.setattr(explaining, "ALONE_WITHIN_S", 0.05)


@pytest.fixture
def gone() -> str:
    """A process that has ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        starter = identity.of_process(process.pid)
        process.kill()
    return starter


def lacking(*told: str | None) -> Iterator[str | None]:
    yield from told
    while True:
        yield told[-1]


def test_it_waits_until_all_is_there(gone: str) -> None:
    for starter in (SELF, gone):
        assert explaining._await(starter, lacking("a trace", "a trace", None).__next__, 60) is None


def test_a_rank_0_that_is_gone_holds_nobodys_pipe(gone: str) -> None:
    with pytest.raises(ShardprofError, match="rank 0 has ended, and only 1 of 2 are there; shardprof report"):
        explaining._await(gone, lambda: "only 1 of 2 are there", 60)


def test_what_is_there_has_to_do_in_the_end() -> None:
    assert explaining._await(SELF, lambda: "only 1 of 2 are there", 0.2) == "only 1 of 2 are there"


def test_a_terminal_obeys_nothing_of_it(capfd: pytest.CaptureFixture[str]) -> None:
    explaining.say("a\x1b[31mb", "c\r")
    assert capfd.readouterr().err == "shardprof: a\\x1b[31mb\n  c\\r\n"
