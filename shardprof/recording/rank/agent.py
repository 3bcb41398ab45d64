"""The agent inside a process of the job: finds out whether it is a rank, and if so records it.

`arm` installs hooks and nothing else. The first evidence of training, a process group joined or a phase of a step after
an optimizer was built, makes the process claim its rank in the run folder: an optimizer alone may be there before the
process group, which alone knows the rank where the environment does not. A process that never trains (launcher, data
loading or compile worker) never claims, and one whose rank is taken says so once it trains.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, cast

from shardprof.recording import frameworks, nccl_request
from shardprof.recording.claim import RankTakenError, claim, host_of
from shardprof.recording.rank import groups, hooks
from shardprof.recording.rank.other_profilers import OtherProfilers
from shardprof.recording.rank.permit import permit_reading
from shardprof.recording.rank.recorder import Describe, Recorder
from shardprof.recording.rank.steps import Source
from shardprof.recording.rank.window import Companion
from shardprof.recording.record_file import RankFile
from shardprof.recording.shield import report_failures_to, shielded, why
from shardprof.trace.schema import RANK_FILE, CapturePlan, NcclSetup, RankRecord, RunFolder, Window, from_json
from shardprof.words import printable

P = ParamSpec("P")


def ours(method: Callable[Concatenate[Agent, Recorder, P], None]) -> Callable[Concatenate[Agent, P], None]:
    """What every hook goes through: nothing where there is no rank, and the time counts as our own."""

    @functools.wraps(method)
    def timed(agent: Agent, *args: P.args, **kwargs: P.kwargs) -> None:
        recorder = agent.recorder
        if recorder is None:
            return
        begin_ns = time.monotonic_ns()
        try:
            method(agent, recorder, *args, **kwargs)
        finally:
            recorder.hook_ns += time.monotonic_ns() - begin_ns

    return cast("Callable[Concatenate[Agent, P], None]", timed)


class Agent:
    """One process of the job. Its methods are what the hooks call, which shield the job from what they raise."""

    def __init__(self, configure: Callable[[], dict[str, Any]], log: Callable[[str], None]) -> None:
        self.recorder: Recorder | None = None
        self.others = OtherProfilers(self.make_way, self._current_step, self.user_trace)
        self._configure = configure
        self._log = log
        self._is_armed = True
        self._block_began_ns: int | None = None
        self._finalizer: multiprocessing.util.Finalize[None] | None = None
        self._optimizer_thread: int | None = None
        self._rival: RankTakenError | None = None
        self._nccl: NcclSetup | None = None
        self._shielded_ends = (shielded(self.finish), shielded(self.finish_capture))

    @shielded
    def ask_nccl(self) -> None:
        """NCCL is not there yet: have it tell of itself once it is."""
        config = self._configure()
        told = config["nccl"]
        if told["mode"] != nccl_request.OFF and (version := groups.nccl_version()):
            folder = RunFolder(Path(config["run"])).nccl(host_of(config))
            self._nccl = nccl_request.ask(told["mode"], told["plugin"], folder, os.environ, version)

    @shielded
    def training_seen(self) -> None:
        """Evidence that this process trains: claim its rank, once."""
        if not self._is_armed:
            return
        self._is_armed = False
        try:
            self._claim()
        except RankTakenError as error:
            self._rival = error
        except Exception as error:
            self._log(traceback.format_exc())
            self._say(f"this process is not recorded: {why(error)}")

    def optimizer_built(self) -> None:
        """An optimizer was built: this process trains if this thread goes on to a phase of a step."""
        self._optimizer_thread = threading.get_ident()

    def begin(self, phase: str) -> None:
        """A phase of the step begins."""
        if self.recorder is None and threading.get_ident() == self._optimizer_thread:
            self.training_seen()
            self._tell_of_rival()
        self._begin(phase)

    @ours
    def end(self, recorder: Recorder) -> None:
        """The phase that began last ends."""
        recorder.end()

    @ours
    def optimizer_stepped(self, recorder: Recorder, optimizer: object) -> None:
        """An optimizer has done its step."""
        recorder.optimizer_stepped(optimizer)

    @ours
    def listen_to(self, recorder: Recorder, source: Source) -> None:
        """`source` will say when steps end."""
        recorder.marker.listen_to(source)

    @ours
    def stepped(self, recorder: Recorder, source: Source, stepper: object) -> None:
        """`stepper`, a `source`, says that a step ended."""
        recorder.stepped(source, stepper)

    @ours
    def uses(self, recorder: Recorder, framework: str, model: object, describe: Describe) -> None:
        """Forward of a framework's model has begun."""
        recorder.uses(framework, model, describe)

    @ours
    def show(self, recorder: Recorder, make_companion: Callable[[], Companion]) -> None:
        """A framework has ranges for the captured steps."""
        recorder.capture.show(make_companion())

    @ours
    def make_way(self, recorder: Recorder) -> None:
        """The script's own profiler is about to open."""
        recorder.capture.make_way()

    @ours
    def user_trace(self, recorder: Recorder, window: Window) -> None:
        """The script's own profiler wrote a trace."""
        recorder.rank_file.put_window(window)

    @ours
    def finish(self, recorder: Recorder) -> None:
        """The process ends."""
        recorder.finish()

    @ours
    def finish_capture(self, recorder: Recorder) -> None:
        """Where that has failed: a profiler that stays open crashes the process when it exits."""
        recorder.capture.finish()

    def enter(self, configure: Callable[[], dict[str, Any]], log: Callable[[str], None]) -> None:
        """A block begins in this thread: what trains from now on is recorded, by optimizers that are there already too.

        `configure` is asked once it trains.
        """
        self.leave(1)  # where a block before could not
        self._configure, self._log = configure, log
        self._is_armed = True
        self._block_began_ns = time.monotonic_ns()
        self._optimizer_thread = self._rival = None
        hooks.adopt_optimizers(self)
        if groups.is_distributed():
            self.training_seen()

    def leave(self, exit_code: int) -> tuple[RankRecord, int] | None:
        """The block is over: the record of the rank that it was and the number of its steps, None where it was none."""
        self._is_armed = False
        if (recorder := self.recorder) is None:
            return None
        self._end()
        self.recorder = None
        recorder.close()
        self._forget_exit()
        with contextlib.suppress(OSError):  # the disk is full: who asks is told all the same
            recorder.rank_file.update(exit_code=exit_code)
        return recorder.rank_file.record, recorder.clock.step

    def disarm_in_fork(self) -> None:
        """A process forked from a rank (a DataLoader worker) is none; one forked before may become one by itself."""
        self._optimizer_thread = self._rival = None
        if self.recorder is not None:
            self.recorder.capture.forget_in_fork()
            self.recorder = None

    def failed(self, what: str, error: Exception) -> None:
        """Something of ours went wrong: it costs a record and a note."""
        self._log("".join(traceback.format_exception(error)))
        if self.recorder is not None:
            with contextlib.suppress(OSError):  # the run folder is gone or full: there is nowhere left to write to
                self.recorder.rank_file.dropped(f"{what}: {error!r}")

    def _claim(self) -> None:
        config = self._configure()
        folder, record = claim(config)
        record = replace(record, nccl_setup=self._nccl)
        rank_file = RankFile(folder / RANK_FILE, record)
        plan = from_json(CapturePlan, config["plan"])
        shielded(permit_reading)(config["recorder_pid"])
        self.recorder = Recorder(
            Path(config["run"]), folder, rank_file, plan, self.others, self._say, self._block_began_ns
        )
        atexit.register(self._end)
        if multiprocessing.parent_process() is not None:  # forked ones leave atexit out
            self._finalizer = multiprocessing.util.Finalize(None, self._end, exitpriority=0)
        if self._block_began_ns is None:
            self._say(f"recording rank {record.rank} (pid {record.pid}, {record.host}) into {config['run']}")

    def _forget_exit(self) -> None:
        atexit.unregister(self._end)
        if self._finalizer is not None:
            self._finalizer.cancel()

    def _end(self) -> None:
        for end in self._shielded_ends:
            end()

    @ours
    def _begin(self, recorder: Recorder, phase: str) -> None:
        recorder.begin(phase)

    def _tell_of_rival(self) -> None:
        rival, self._rival = self._rival, None
        if rival is not None:
            self._say(f"this process ({os.getpid()}) trains but is not recorded: {rival}")
            self._log(f"a process that trains was not recorded: {rival}")

    def _current_step(self) -> int:
        return self.recorder.clock.step if self.recorder is not None else 0

    def _say(self, text: str) -> None:
        with contextlib.suppress(Exception):  # a job may have closed or replaced it
            sys.stderr.write(f"shardprof: {printable(text)}\n")
            sys.stderr.flush()


_agent: Agent | None = None


def arm(config: dict[str, Any], when_imported: hooks.WhenImported, log: Callable[[str], None]) -> None:
    """Install the hooks in this process. `torch` has just been imported, nothing else may be."""
    agent = Agent(lambda: config, log)
    when_imported("torch.distributed", agent.ask_nccl)
    _install(agent, when_imported)


def enter_block(
    configure: Callable[[], dict[str, Any]], when_imported: hooks.WhenImported, log: Callable[[str], None]
) -> Agent:
    """Record this process from now until the agent's `leave`; the hooks stay for the next block, and do nothing."""
    agent = _agent
    if agent is None:
        agent = Agent(configure, log)
        _install(agent, when_imported)
    agent.enter(configure, log)
    return agent


def _install(agent: Agent, when_imported: hooks.WhenImported) -> None:
    global _agent
    _agent = agent
    report_failures_to(agent.failed)
    agent.others.watch()
    hooks.install(agent, when_imported)
    for framework in frameworks.discover():
        when_imported(framework.MODULE, functools.partial(framework.install, agent))
    os.register_at_fork(after_in_child=shielded(agent.disarm_in_fork))


def mark_step_by_user() -> None:
    """`shardprof.step()`: the script itself says that a step ended."""
    if _agent is not None:
        _mark_step(_agent)


def expect_user_marks() -> None:
    """From here on only `shardprof.step()` ends steps; the first one is about to begin."""
    if _agent is not None:
        _expect_user_marks(_agent)


@shielded
def _expect_user_marks(agent: Agent) -> None:
    agent.training_seen()
    agent.listen_to(Source.USER)


@shielded
def _mark_step(agent: Agent) -> None:
    agent.training_seen()
    agent.stepped(Source.USER, agent)
