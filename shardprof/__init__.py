"""Records and explains distributed PyTorch training, step by step and rank by rank.

`load` is for those who read a run in Python, `step` for training scripts; importing this package loads nothing
heavy, so that it may be imported inside every rank.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["ShardprofError", "__version__", "load", "step"]

from typing import TYPE_CHECKING

from shardprof.errors import ShardprofError

if TYPE_CHECKING:
    import os

    from shardprof.frames import Run


def load(*paths: str | os.PathLike[str]) -> Run:
    """The run in `paths`: a run folder, a folder of traces or one trace, on disk or as a URL.

    None is the newest run under shardprof-runs/, several are the nodes of one run. All traces are read and analysed
    here; `shardprof.frames.Run` tells what can then be asked. Raises ShardprofError where there is nothing to read.
    """
    from shardprof import frames

    return frames.load(paths)


def step() -> None:
    """Mark the end of a training step by hand, for loops whose steps shardprof cannot see by itself.

    From the first call on, only these marks end a step in this process. Without a recording it does nothing.
    """
    import sys

    agent = sys.modules.get("shardprof.record.rank.agent")
    if agent is not None:
        agent.mark_step_by_user()
