"""`shardprof record`: runs a job and records it, on one node. Whatever fails here, the job runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shardprof.errors import ShardprofError
from shardprof.recording import inject, join, node, summary
from shardprof.recording.job import run_job
from shardprof.recording.record_file import RecordFile
from shardprof.recording.shield import report_failures_to, why
from shardprof.trace.request import REQUEST_FILE
from shardprof.trace.schema import HOST_FILE, CapturePlan, Outcome, RunFolder
from shardprof.words import printable

if TYPE_CHECKING:
    from shardprof.recording.beside.crew import Crew
    from shardprof.sinks import Request


def record(command: tuple[str, ...], out: Path | None, plan: CapturePlan, sinks: Sequence[Request] = ()) -> int:
    """Run `command` recorded, its steps passed on to `sinks`; its exit code.

    Raises ShardprofError where there is nothing that could be run.
    """
    if shutil.which(command[0]) is None:
        raise ShardprofError(f"{command[0]}: no such program", "check its name and PATH")
    try:
        recording = Recording(command, out, plan, sinks)
    except Exception as error:
        return _run_unrecorded(command, why(error))
    return recording.run()


class Recording:
    """One node's part of a run: its host folder, its samples, its outcome. Making it claims the folder."""

    def __init__(
        self, command: tuple[str, ...], out: Path | None, plan: CapturePlan, sinks: Sequence[Request] = ()
    ) -> None:
        self._command = command
        self._run = join.join_run(out, command, plan)
        if out is not None and self._run.root != out.absolute():
            say(f"{out} holds a run that is over: recording into {self._run.root}")
        name = join.claim_host(self._run)
        self._folder = self._run.host(name)
        self._host = RecordFile(self._folder / HOST_FILE, node.describe(name))
        report_failures_to(lambda what, error: self._note(f"{what}: {error!r}"))
        host = join.first_on_node(self._run, name)
        bootstrap = inject.write_bootstrap(self._run, name, host, plan)
        self._environment = inject.environment_with(bootstrap, os.environ)
        self._crew = _crew(self._run, host, plan, sinks, self._note) if host == name else None
        devices = self._crew.devices if self._crew else ()
        self._host.update(devices=devices, beside=None if host == name else host)

    def run(self) -> int:
        """Run the job; its exit code."""
        try:
            exit_code = run_job(self._command, self._environment, while_running=self._start)
        except ShardprofError:
            self._discard()
            raise
        if self._crew:
            self._crew.stop()
        try:
            self._finish(exit_code)
        except Exception as error:
            say(f"the end of the run is not recorded: {why(error)}")
        return exit_code

    def _start(self) -> None:
        if self._crew:
            self._crew.start()

    def _finish(self, exit_code: int) -> None:
        name = self._host.record.name
        for note in summary.agent_notes(self._run, name):
            self._note(note)
        outcome = Outcome(exit_code=exit_code, ended_ns=time.time_ns())
        for note in self._host.record.notes:
            say(note)
        costs = self._crew.costs() if self._crew else ()
        self._host.update(outcome=outcome, counter_costs=costs, recorder_cpu_s=time.process_time())
        for line in summary.lines(self._run, summary.complete(self._run)):
            say(line)

    def _discard(self) -> None:
        """The job never began: leave no run behind."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._run.host_folders():
            for file in (self._run.run_file, self._run.root / REQUEST_FILE):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder may hold what is not ours
                self._folder.parent.rmdir()
                self._run.root.rmdir()

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # it stays in memory, for the end
            self._host.note(text)


def _crew(run: RunFolder, host: str, plan: CapturePlan, sinks: Sequence[Request], note: Callable[[str], None]) -> Crew:
    # Here, so that a part that does not load leaves the job unrecorded.
    from shardprof.recording.beside.crew import Crew

    return Crew(run, host, plan, say, note, sinks)


def say(text: str) -> None:
    """A line for the user. The job's own output is never touched."""
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        sys.stderr.write(f"shardprof: {printable(text)}\n")
        sys.stderr.flush()


def _run_unrecorded(command: tuple[str, ...], why: str) -> int:
    warning = f"the job runs unrecorded: {why}; try `--out` with a folder that can be written"
    say(warning)
    exit_code = run_job(command, os.environ)
    say(warning)
    return exit_code
