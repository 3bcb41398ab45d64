"""`shardprof record`: runs a job and records it, on one node. Whatever fails here, the job runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import time
from pathlib import Path

from shardprof.errors import ShardprofError
from shardprof.record import inject, join, node, summary
from shardprof.record.counters import open_sources
from shardprof.record.job import run_job
from shardprof.record.sampler import Sampler
from shardprof.trace.schema import COUNTERS_FILE, HOST_FILE, CapturePlan, Outcome, write_whole


def record(command: tuple[str, ...], out: Path | None, plan: CapturePlan) -> int:
    """Run `command` recorded; its exit code. Raises ShardprofError where there is nothing that could be run."""
    if shutil.which(command[0]) is None:
        raise ShardprofError(f"{command[0]}: no such program", "check its name and PATH")
    try:
        recording = Recording(command, out, plan)
    except Exception as error:
        return _run_unrecorded(command, _why(error))
    return recording.run()


class Recording:
    """One node's part of a run: its host folder, its samples, its outcome. Making it claims the folder."""

    def __init__(self, command: tuple[str, ...], out: Path | None, plan: CapturePlan) -> None:
        self._command = command
        self._run = join.join_run(out, command, plan)
        if out is not None and self._run.root != out.absolute():
            say(f"{out} holds a run that is over: recording into {self._run.root}")
        host = join.claim_host(self._run)
        self._folder = self._run.host(host)
        self._record = node.describe(host)
        self._write()
        bootstrap = inject.write_bootstrap(self._run, host, plan)
        self._environment = inject.environment_with(bootstrap, os.environ)
        sources = open_sources(self._run, host, self._note)
        self._sampler = Sampler(self._folder / COUNTERS_FILE, sources, lambda: True, self._note)
        self._record = dataclasses.replace(
            self._record, devices=tuple(device for source in sources for device in source.devices)
        )
        self._write()

    def run(self) -> int:
        """Run the job; its exit code."""
        try:
            exit_code = run_job(self._command, self._environment, while_running=self._start_sampling)
        except ShardprofError:
            self._discard()
            raise
        try:
            self._finish(exit_code)
        except Exception as error:
            say(f"the end of the run is not recorded: {_why(error)}")
        return exit_code

    def _start_sampling(self) -> None:
        try:
            self._sampler.start()
        except RuntimeError as error:  # no thread to be had
            self._note(f"counters are missing: {error}")

    def _finish(self, exit_code: int) -> None:
        self._sampler.stop()
        for note in summary.agent_notes(self._run, self._record.name):
            self._note(note)
        outcome = Outcome(exit_code=exit_code, ended_ns=time.time_ns())
        self._record = dataclasses.replace(
            self._record, outcome=outcome, counter_costs=self._sampler.costs(self._record.name)
        )
        self._write()
        for note in self._record.notes:
            say(note)
        for line in summary.lines(self._run, summary.complete(self._run)):
            say(line)

    def _discard(self) -> None:
        """The job never began: leave no run behind."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._run.host_folders():
            self._run.run_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder may hold what is not ours
                self._folder.parent.rmdir()
                self._run.root.rmdir()

    def _note(self, text: str) -> None:
        self._record = dataclasses.replace(self._record, notes=(*self._record.notes, text))

    def _write(self) -> None:
        write_whole(self._folder / HOST_FILE, self._record)


def say(text: str) -> None:
    """A line for the user. The job's own output is never touched."""
    sys.stderr.write(f"shardprof: {text}\n")
    sys.stderr.flush()


def _run_unrecorded(command: tuple[str, ...], why: str) -> int:
    warning = f"the job runs unrecorded: {why}; try `--out` with a folder that can be written"
    say(warning)
    exit_code = run_job(command, os.environ)
    say(warning)
    return exit_code


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return repr(error)
