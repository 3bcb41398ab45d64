"""Samples the Python stacks of a node's ranks by py-spy while the job runs, in a thread; looks at one now, on demand.

Each rank is sampled in chunks of CHUNK_S, and its files grow after each: what is killed loses one chunk. After WHOLE_S
pauses come between them, each PAUSE_SHARE as long as the time since then, so that a week has about ninety chunks.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.beside.stacks import py_spy
from shardprof.recording.beside.stacks.files import StackFiles
from shardprof.recording.beside.stacks.py_spy import Sampling, SamplingError
from shardprof.recording.beside.thread import BesideThread

POLL_S = 0.2
CHUNK_S = 30
WHOLE_S = 300.0
PAUSE_SHARE = 0.1
LATE_S = 20.0  # py-spy counts samples: on a busy machine it needs longer for them
RETRY_S = 1.0
MOST_FAILURES = 3
ENDING_S = 10.0
STOP_S = 30.0
DUMP_S = 20.0


def dump(pid: int) -> str | None:
    """The Python stacks of a process as they are now, as text; None where they cannot be had. Takes 20 s at most."""
    program = py_spy.find()
    if program is None:
        return None
    command = [program, "dump", "--pid", str(pid), "--nonblocking"]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=DUMP_S, start_new_session=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def pause_s(elapsed_s: float) -> float:
    """How long a rank is left alone after a chunk that ends `elapsed_s` after its first one began."""
    return PAUSE_SHARE * max(0.0, elapsed_s - WHOLE_S)


class StackRecorder(BesideThread):
    """Samples the ranks of one host from `start` to `stop`, as they check in. Never raises: what fails is noted."""

    def __init__(self, ranks: NodeRanks, note: Callable[[str], None]) -> None:
        super().__init__("stacks", STOP_S)
        self._node_ranks = ranks
        self._note = note
        self._noted: set[str] = set()
        self._over: set[int] = set()
        self._ranks: dict[int, _Rank] = {}

    def start(self) -> None:
        """Begin to look for ranks."""
        if py_spy.find() is None:
            self._note_once("py-spy is not installed, try `pip install py-spy`")
            return
        try:
            super().start()
        except RuntimeError as error:  # no thread to be had
            self._note_once(str(error))

    def _run(self) -> None:
        try:
            self._sample()
        except Exception as error:
            self._note_once(repr(error))
        for rank in self._ranks.values():
            with contextlib.suppress(OSError):
                rank.kill()

    def _sample(self) -> None:
        while not self._stopped.wait(POLL_S):
            self._find_ranks()
            self._advance()
        give_up = time.monotonic() + ENDING_S
        for rank in self._ranks.values():
            rank.interrupt()
        while self._ranks and time.monotonic() < give_up:
            self._advance()
            time.sleep(POLL_S / 10)

    def _find_ranks(self) -> None:
        for record in self._node_ranks.current():
            if record.pid not in self._over and record.pid not in self._ranks:
                scratch = self._node_ranks.run.host(self._node_ranks.host) / f".stacks-{record.pid}"
                files = StackFiles(self._node_ranks.run.rank(record.rank), record.rank, record.pid)
                self._ranks[record.pid] = _Rank(record.pid, files, scratch, self._note_once)

    def _advance(self) -> None:
        for pid, rank in list(self._ranks.items()):
            if not rank.advance():
                del self._ranks[pid]
                self._over.add(pid)

    def _note_once(self, why: str) -> None:
        """What fails for one rank mostly fails for all of them."""
        if why not in self._noted:
            self._noted.add(why)
            self._note(f"stacks are missing: {why}")


class _Rank:
    """One rank's process: sampled in chunks, one after the other."""

    def __init__(self, pid: int, files: StackFiles, scratch: Path, note: Callable[[str], None]) -> None:
        self.pid = pid
        self._files = files
        self._scratch = scratch
        self._note = note
        self._sampling: Sampling | None = None
        self._stopping = False
        self._failures = 0
        self._failure = ""
        self._first_begun_s = self._begun_s = self._due_s = time.monotonic()

    def advance(self) -> bool:
        """Do what is due now; False where there is nothing more to come."""
        if self._sampling is not None:
            self._tend(self._sampling)
            return True
        if self._stopping or not _is_running(self.pid):
            return False
        if time.monotonic() >= self._due_s:
            if self._failure:  # told only now: a rank that was about to end is not worth a note
                self._note(self._failure)
            if self._failures == MOST_FAILURES:
                return False
            self._begin()
        return True

    def interrupt(self) -> None:
        """Begin nothing more, and let py-spy write what it has."""
        self._stopping = True
        if self._sampling is not None:
            self._sampling.interrupt()

    def kill(self) -> None:
        """Leave no py-spy behind."""
        if self._sampling is not None:
            self._sampling.kill()

    def _begin(self) -> None:
        self._begun_s = time.monotonic()
        try:
            program = py_spy.find()
            if program is None:
                raise SamplingError("py-spy is gone")
            self._sampling = Sampling(program, self.pid, CHUNK_S, self._scratch)
        except (OSError, SamplingError) as error:
            self._fail(error)

    def _tend(self, sampling: Sampling) -> None:
        if not sampling.has_ended():
            sampling.look()
            if time.monotonic() > self._begun_s + CHUNK_S + LATE_S:
                sampling.interrupt()
            return
        self._sampling = None
        try:
            self._keep(sampling)
        except Exception as error:
            self._fail(error)

    def _keep(self, sampling: Sampling) -> None:
        self._files.add(sampling.take())
        self._failures, self._failure = 0, ""
        now_s = time.monotonic()
        self._due_s = now_s + pause_s(now_s - self._first_begun_s)

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self._failure = str(error) if isinstance(error, SamplingError) else repr(error)
        self._due_s = time.monotonic() + RETRY_S


def _is_running(pid: int) -> bool:
    """Is it a process that has not ended, a zombie?"""
    try:
        Path(f"/proc/{pid}/exe").readlink()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
