"""Explains each trace that torchtitan's profiler exports, while the training goes on.

In a configuration of torchtitan's:

    from torchtitan.config.function import Function
    from shardprof.torchtitan import trace_post_processor

    profiler.enable_profiling = True
    profiler.trace_post_processor = Function.Config(fn=trace_post_processor)
"""

from __future__ import annotations

import re
from pathlib import Path

from shardprof import explaining
from shardprof.recording import launched

OTHERS_WITHIN_S = 120.0
_TRACE = re.compile(r"rank(\d+)_trace\.json(\.gz)?")


def trace_post_processor(trace_path: str) -> None:
    """Have the traces of an iteration explained on rank 0's stderr: what bounds it, and what to change.

    torchtitan calls it on every rank with the path of its trace, right after the export. Rank 0 starts a process of low
    priority for it and goes on at once; that waits until the traces of all ranks lie in the folder, two minutes at
    most, and takes those that are there. Once rank 0 is gone it gives up where some are missing, within seconds. It
    never raises.
    """
    try:
        trace = Path(trace_path).absolute()
        if (named := _TRACE.fullmatch(trace.name)) and int(named[1]) > 0:
            return
        explaining.start(__name__, str(trace.parent), str(launched.position().world_size))
    except Exception as error:
        explaining.say(f"{trace_path} is not explained: {error!r}")


def main(folder: str, world_size: str, starter: str) -> None:
    """The process beside rank 0, which is `starter`."""
    ranks = int(world_size)
    exported = Exported(Path(folder), ranks)
    explaining.explain(exported.folder, starter, exported.lacking, within_s=OTHERS_WITHIN_S, ranks=ranks)


class Exported:
    """The traces of an iteration as they come into `folder`."""

    def __init__(self, folder: Path, world_size: int) -> None:
        self.folder = folder
        self._world_size = world_size
        self._sizes: dict[str, int] = {}

    def lacking(self) -> str | None:
        """What is not there, in words; None once all is and none has grown since it was asked last."""
        before, self._sizes = self._sizes, self._look()
        if len(self._sizes) < self._world_size:
            return f"only {len(self._sizes)} of {self._world_size} ranks' traces are there"
        return None if self._sizes == before else "traces are still being written"

    def _look(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if _TRACE.fullmatch(path.name)}
