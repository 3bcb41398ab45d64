"""`with shardprof.record()`: what `shardprof record` gives, for a block of a script or a cell of a notebook.

Each rank of a job enters and leaves by itself. The agent is the same as under the command; what differs is that it is
there for a while only, finds models and optimizers that exist already, and has a recorder that it started itself.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shardprof.errors import ShardprofError
from shardprof.recording import identity, join, launched
from shardprof.recording.bootstrap.sitecustomize import KINETO_SILENCE, STARTED, AfterImport
from shardprof.recording.inject import AGENT_LOG
from shardprof.recording.rank.schedule import WARMUP_STEPS
from shardprof.recording.shield import heard_by, shielded, why
from shardprof.trace.live import has_outcome
from shardprof.trace.schema import CapturePlan, RankRecord, RunFolder
from shardprof.words import numbers, plural, printable

if TYPE_CHECKING:
    from shardprof.frames import Run
    from shardprof.recording.meeting import Met
    from shardprof.recording.rank.agent import Agent

OTHERS_WITHIN_S = 30.0
_EVERY_S = 0.05
_MOST_NOTES = 3
_BY_COMMAND = "`shardprof record` records this job already"
_INSIDE = "it is inside another such block"

_active: Block | None = None
_after_import: AfterImport | None = None
_said: set[str] = set()


def block(out: str | os.PathLike[str] | None, steps: range | None, *, stack: bool, memory: bool) -> Block:
    """The block that `shardprof.record` promises. Raises ShardprofError where `steps` is no range of steps."""
    return Block(folder_of(out), plan_of(steps, stack=stack, memory=memory))


def folder_of(out: str | os.PathLike[str] | None) -> Path | None:
    """The run folder that is wanted; None, or nothing, is a new one."""
    return Path(out).absolute() if out else None


def plan_of(steps: range | None, *, stack: bool, memory: bool) -> CapturePlan:
    """What a block captures. Raises ShardprofError where `steps` is no range of steps."""
    wanted = range(2, 7) if steps is None else steps
    if not isinstance(wanted, range) or wanted.step != 1 or wanted.start < 0 or not wanted:
        raise ShardprofError(f"{steps} is no range of steps", "try steps=range(2, 7)")
    return CapturePlan(
        first_step=wanted.start,
        steps=len(wanted),
        warmup_steps=min(WARMUP_STEPS, wanted.start),
        repeat=0 if steps is None else 1,
        stack=stack,
        memory=memory,
        nccl="off",  # its plugin could not be taken out again
    )


class Block:
    """A block that is recorded, on one rank. `folder` is the run's, which all ranks share, `rank` is this one; None
    until something trains, and until the block is over.

    Entering and leaving never raise: what fails of ours is told and costs the recording.
    """

    def __init__(self, out: Path | None, plan: CapturePlan) -> None:
        self.folder: Path | None = None
        self.rank: int | None = None
        self._out = out
        self._plan = plan
        self._agent: Agent | None = None
        self._host = ""
        self._idle_why = ""
        self._failure = ""
        self._is_over = False
        self._run: Run | None = None
        self._uncaught_before = 0

    def __enter__(self) -> Block:
        with heard_by(self._heard):
            self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.leave(_exit_code(error))

    def leave(self, exit_code: int) -> None:
        """End the block, as what a process with that exit code would be."""
        global _active
        self._is_over = True
        if _active is self:
            _active = None
            self._leave(exit_code)

    def __repr__(self) -> str:
        state = "recorded" if self._is_over else "recording"
        return f"<shardprof.record(): {self._idle_why or self._failure or f'{state} {self.folder or None}'}>"

    @property
    def run(self) -> Run:
        """The run, read and analysed once. It waits until the other ranks have left their blocks, half a minute at
        most; where they have not, it is read again the next time.

        Raises ShardprofError inside the block, and where nothing was recorded.
        """
        if self._run is not None:
            return self._run
        if self._idle_why:
            raise ShardprofError(f"this block recorded nothing: {self._idle_why}", "the outer recording has it")
        if not self._is_over:
            raise ShardprofError("the block is still being recorded", "ask for its run after it")
        if self.folder is None and self._failure:
            raise ShardprofError(f"nothing was recorded: {self._failure}", "the training itself was left alone")
        if self.folder is None:
            raise ShardprofError(
                "nothing was recorded: no optimizer or engine made a step and no process group was joined",
                "call shardprof.step() in the loop, once a step",
            )
        is_complete = _await_outcome(RunFolder(self.folder))
        import shardprof

        run = shardprof.load(self.folder)
        if is_complete:
            self._run = run
        return run

    @property
    def headline(self) -> str:
        """What bounds the training, in a few lines; where there is no run, why. Waits as `run` does, never raises."""
        try:
            return self.run.headline
        except ShardprofError as error:
            return str(error)
        except Exception as error:
            return f"the run cannot be read: {why(error)}"

    @shielded
    def _enter(self) -> None:
        global _active
        self._idle_why = _BY_COMMAND if STARTED in sys.modules else _INSIDE if _active else ""
        if self._idle_why:
            _say_once(f"{self._idle_why}: shardprof.record() does nothing")
            return
        _active = self
        self._uncaught_before = _uncaught()
        atexit.register(self._leave_at_exit)
        os.environ.setdefault(*KINETO_SILENCE)  # counts where torch is not there yet
        _when_imported()("torch", self._arm)

    def _arm(self) -> None:
        """torch is there."""
        if _active is not self:
            return
        try:
            from shardprof.recording.rank import agent

            self._agent = agent.enter_block(self._configure, _when_imported(), self._log)
        except Exception as error:
            self._failed(error)

    def _configure(self) -> dict[str, Any]:
        """This process trains: the run that it belongs to, as the agent wants to know it."""
        try:
            met = self._meet()
        except Exception as error:
            self._failure = why(error)  # which the agent says
            raise
        return {
            "run": str(met.run.root),
            "host": met.host,
            "node": identity.of_node(),
            "recorder_pid": os.getpid(),
            "plan": dataclasses.asdict(self._plan),
        }

    def _meet(self) -> Met:
        """The others' run or a new one; the first of its node starts what looks at the node."""
        from shardprof.recording.beside import node_recorder
        from shardprof.recording.meeting import meet

        met = meet(lambda: join.make_run(self._out, _command(), self._plan))
        self.folder, self._host = met.run.root, met.host
        if met.is_first_on_node:
            if met.is_of_node:
                _say(f"this node shares no storage with the first rank's: it records into {met.run.root}")
            try:
                node_recorder.start(met.run, met.host)
            except OSError as error:
                self._log(f"there is no recorder beside the ranks: {error}")
        return met

    @shielded
    def _leave(self, exit_code: int) -> None:
        atexit.unregister(self._leave_at_exit)
        left = self._agent.leave(exit_code) if self._agent is not None else None
        if left is not None and self.folder is not None:
            record, steps = left
            self.rank = record.rank
            if record.rank == 0:
                _say(f"{_recorded(record, steps, self._plan)}: shardprof report {shlex.quote(_shown(self.folder))}")
            if record.dropped_records:
                _say(f"{plural(record.dropped_records, 'record')} lost: {'; '.join(record.notes[:_MOST_NOTES])}")

    def _leave_at_exit(self) -> None:
        """The process ends inside: by an exception that nobody caught, or as it should."""
        self.leave(int(_uncaught() != self._uncaught_before))

    def _heard(self, what: str, error: Exception) -> None:
        if what == Block._enter.__qualname__:  # others cost less
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Nothing of this block will be recorded."""
        self._failure = why(error)
        _say(f"this block is not recorded: {self._failure}")

    def _log(self, text: str) -> None:
        """What went wrong, for the recorder of the node to take up."""
        if self.folder is None:
            return  # where there is no run the agent says so
        line = json.dumps({"pid": os.getpid(), "text": text}) + "\n"
        with contextlib.suppress(OSError), (RunFolder(self.folder).host(self._host) / AGENT_LOG).open("a") as file:
            file.write(line)


def _uncaught() -> int:
    """Which exception nobody caught last: Python's, in a notebook that of a cell. Not the exception itself, which would
    keep its tensors alive."""
    return id(getattr(sys, "last_value", None))


def _exit_code(error: BaseException | None) -> int:
    """What a process would exit with that `error` ends."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _when_imported() -> Callable[[str, Callable[[], None]], None]:
    """Calls back once a module is there; one finder does so for all blocks of a process."""
    global _after_import
    if _after_import is None:
        _after_import = AfterImport(lambda text: _say(text.strip().splitlines()[-1]))
        sys.meta_path.insert(0, _after_import)
    return _after_import.when_imported


def _command() -> tuple[str, ...]:
    """What runs: the notebook where it is one, else the command line."""
    if "ipykernel" in sys.modules:
        return (os.environ.get("JPY_SESSION_NAME") or "notebook",)
    return tuple(sys.orig_argv) or ("python",)


def _recorded(record: RankRecord, steps: int, plan: CapturePlan) -> str:
    """What came of the block, as this rank saw it."""
    windows = [window for window in record.windows if window.profiler == "shardprof"]
    if windows:
        captured = [step for window in windows for step in range(window.first_step, window.last_step + 1)]
        named = f"step{'' if len(captured) == 1 else 's'} {numbers(captured)}"
        return f"recorded {plural(steps, 'step')}, captured {named}"
    if steps == 0:
        return "no step end was seen: call shardprof.step() in the loop, once a step"
    hint = f" (record(steps=range(0, {steps})) would have)" if plan.repeat and steps <= plan.first_step else ""
    return f"recorded {plural(steps, 'step')}, captured none{hint}"


def _await_outcome(run: RunFolder) -> bool:
    """Wait until the recorders of all nodes say how their ranks left, not for ever; whether they did."""
    end = time.monotonic() + OTHERS_WITHIN_S
    while time.monotonic() < end:
        if has_outcome(run):
            return True
        time.sleep(_EVERY_S)
    return False


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _say_once(text: str) -> None:
    if text not in _said and launched.position().rank == 0:
        _said.add(text)
        _say(text)


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # a job may have closed or replaced it
        sys.stderr.write(f"shardprof: {printable(text)}\n")
        sys.stderr.flush()
