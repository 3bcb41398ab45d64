"""The recorder of a node for `with shardprof.record()`: a process beside the ranks, begun by the first of them.

It samples what `shardprof record` would and says in the end how the ranks left their block. It asks nothing of them and
outlives them: one that is killed is a rank that left.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from shardprof.recording import identity, node, own_process, summary
from shardprof.recording.beside.crew import Crew
from shardprof.recording.beside.node_ranks import NEW_EVERY_S, NodeRanks
from shardprof.recording.record_file import RecordFile
from shardprof.recording.shield import report_failures_to
from shardprof.trace.place import ENDED, PLACE_FILE, read_place
from shardprof.trace.schema import HOST_FILE, RANK_FILE, Outcome, RankRecord, RunFolder, RunRecord, read_whole

_KILLED = 1


def start(run: RunFolder, host: str) -> None:
    """Start it, by the first rank of the node. OSError where it cannot be started."""
    own_process.start(__name__, str(run.root), host, identity.of_process(os.getpid()))


def main(root: str, host: str, starter: str) -> None:
    """Record the node `host` until its ranks have left; `starter` is the process of the first one."""
    run = RunFolder(Path(root))
    file = RecordFile(run.host(host) / HOST_FILE, node.describe(host))

    def note(text: str) -> None:
        with contextlib.suppress(OSError):
            file.note(text)

    report_failures_to(lambda what, error: note(f"{what}: {error!r}"))
    crew = Crew(run, host, read_whole(RunRecord, run.run_file).plan, note, note)
    file.update(devices=crew.devices)
    crew.start()
    exit_code = _Ranks(run, host, starter).wait()
    crew.stop()
    for text in summary.agent_notes(run, host):
        note(text)
    outcome = Outcome(exit_code=exit_code, ended_ns=time.time_ns())
    file.update(outcome=outcome, counter_costs=crew.costs(), recorder_cpu_s=time.process_time())
    summary.complete(run)


class _Ranks:
    """The ranks of one node, as they come and leave."""

    def __init__(self, run: RunFolder, host: str, starter: str) -> None:
        self._run = run
        self._ours = NodeRanks(run, host)
        self._starter = starter
        self._processes: dict[int, str] = {}

    def wait(self) -> int:
        """Until none is inside; the exit code of the first one that did not leave well, else 0."""
        while True:
            starts = identity.is_alive(self._starter)  # asked first: what it writes before it ends is seen then
            codes = [self._exit_code(record) for record in self._records()]
            if None not in codes and (codes or not starts):
                return next(filter(None, codes), 0 if codes else _KILLED)
            time.sleep(NEW_EVERY_S)  # so that each time new ones are looked for

    def _records(self) -> list[RankRecord]:
        """As they are now, of this node only: a job may have thousands, on storage that all nodes ask."""
        records = [self._now(record) for record in self._ours.current()]
        return [record for record in records if record.host == self._ours.host]  # one may have moved

    def _now(self, record: RankRecord) -> RankRecord:
        with contextlib.suppress(OSError, ValueError, TypeError):  # it is put aside for another attempt
            return read_whole(RankRecord, self._run.rank(record.rank) / RANK_FILE)
        return record

    def _exit_code(self, record: RankRecord) -> int | None:
        """None while it is inside."""
        if record.exit_code is None and self._lives(record.pid):
            return None
        if record.exit_code is not None:
            return record.exit_code
        place = read_place(self._run.rank(record.rank) / PLACE_FILE)
        return 0 if place is not None and place.phase == ENDED else _KILLED

    def _lives(self, pid: int) -> bool:
        if pid not in self._processes:
            with contextlib.suppress(OSError):
                self._processes[pid] = identity.of_process(pid)
        return pid in self._processes and identity.is_alive(self._processes[pid])
