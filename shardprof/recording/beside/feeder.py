"""Passes the steps of a node's ranks on to sinks while the job runs. What fails there is a note in the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.beside.thread import BesideThread
from shardprof.recording.shield import shielded
from shardprof.sinks import Request

STOP_S = 45.0
"""What is left when the job ends may have to be uploaded."""


class Feeder(BesideThread):
    """Feeds the sinks from `start` on; `stop` waits until they have got all."""

    def __init__(
        self, ranks: NodeRanks, requests: Sequence[Request], say: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        super().__init__("sinks", STOP_S)
        self._ranks = ranks
        self._requests = requests
        self._say = say
        self._note = note

    def stop(self) -> None:
        """End it, and tell where it does not."""
        super().stop()
        if self._thread.is_alive():
            self._note(f"not all steps are sent {STOP_S:g} s after the end: shardprof export sends them again")

    @shielded
    def _run(self) -> None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of NumPy, which the recorder has no other use for
        from shardprof.sinks._feed import EVERY_S, Feed

        feed = Feed(self._ranks.run, self._requests, self._ranks.current, self._say, self._note)
        while not self._stopped.wait(EVERY_S):
            feed.send()
        feed.send(final=True)
        feed.close()
