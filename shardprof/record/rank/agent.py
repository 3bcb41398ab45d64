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

from shardprof.record import frameworks, nccl_request
from shardprof.record.claim import RankTakenError, claim, host_of
from shardprof.record.rank import groups, hooks
from shardprof.record.rank.other_profilers import OtherProfilers
from shardprof.record.rank.permit import permit_reading
from shardprof.record.rank.recorder import Describe, Recorder
from shardprof.record.rank.steps import Source
from shardprof.record.rank.window import Companion
from shardprof.record.record_file import RankFile
from shardprof.record.shield import report_failures_to, shielded
from shardprof.trace.schema import RANK_FILE, CapturePlan, NcclSetup, RunFolder, Window, from_json

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

    def __init__(self, config: dict[str, Any], log: Callable[[str], None]) -> None:
        self.recorder: Recorder | None = None
        self.others = OtherProfilers(self.make_way, self._current_step, self.user_trace)
        self._config = config
        self._log = log
        self._is_armed = True
        self._optimizer_thread: int | None = None
        self._rival: RankTakenError | None = None
        self._nccl: NcclSetup | None = None

    @shielded
    def ask_nccl(self) -> None:
        """NCCL is not there yet: have it tell of itself once it is."""
        told = self._config["nccl"]
        if told["mode"] != nccl_request.OFF and (version := groups.nccl_version()):
            folder = RunFolder(Path(self._config["run"])).nccl(host_of(self._config))
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
        except Exception:
            self._log(traceback.format_exc())
            self._say("this process is not recorded, see the notes in the run folder")

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
        folder, record = claim(self._config)
        record = replace(record, nccl_setup=self._nccl)
        rank_file = RankFile(folder / RANK_FILE, record)
        plan = from_json(CapturePlan, self._config["plan"])
        shielded(permit_reading)(self._config["recorder_pid"])
        self.recorder = Recorder(Path(self._config["run"]), folder, rank_file, plan, self.others, self._say)
        finish = shielded(self.finish)
        atexit.register(finish)
        if multiprocessing.parent_process() is not None:  # forked ones leave atexit out
            multiprocessing.util.Finalize(None, finish, exitpriority=0)
        self._say(f"recording rank {record.rank} (pid {record.pid}, {record.host}) into {self._config['run']}")

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
            sys.stderr.write(f"shardprof: {text}\n")
            sys.stderr.flush()


_agent: Agent | None = None


def arm(config: dict[str, Any], when_imported: hooks.WhenImported, log: Callable[[str], None]) -> None:
    """Install the hooks in this process. `torch` has just been imported, nothing else may be."""
    global _agent
    _agent = Agent(config, log)
    report_failures_to(_agent.failed)
    _agent.others.watch()
    when_imported("torch.distributed", _agent.ask_nccl)
    hooks.install(_agent, when_imported)
    for framework in frameworks.discover():
        when_imported(framework.MODULE, functools.partial(framework.install, _agent))
    os.register_at_fork(after_in_child=shielded(_agent.disarm_in_fork))


def mark_step_by_user() -> None:
    """`shardprof.step()`: the script itself says that a step ended."""
    if _agent is not None:
        _mark_step(_agent)


@shielded
def _mark_step(agent: Agent) -> None:
    agent.training_seen()
    agent.stepped(Source.USER, agent)
