"""Records and explains distributed PyTorch training, step by step and rank by rank.

`record` and `step` are for training scripts and notebooks, `load` and `compare` for those who read runs in Python.
Importing this package loads nothing heavy, so that it may be imported inside every rank.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["ShardprofError", "__version__", "compare", "load", "record", "step"]

from typing import TYPE_CHECKING

from shardprof.errors import ShardprofError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from shardprof.frames import Compared, Run
    from shardprof.recording.block import Block


def load(*paths: str | os.PathLike[str]) -> Run:
    """The run in `paths`: a run folder, a folder of traces or one trace, on disk or as a URL.

    None is the newest run under shardprof-runs/, several are the nodes of one run. All traces are read and analysed
    here; `shardprof.frames.Run` tells what can then be asked. Raises ShardprofError where there is nothing to read.
    """
    from shardprof import frames

    return frames.load(paths)


def compare(
    a: str | os.PathLike[str] | Run | Sequence[str | os.PathLike[str] | Run],
    b: str | os.PathLike[str] | Run | Sequence[str | os.PathLike[str] | Run],
) -> Compared:
    """What changed from A to B, as `shardprof compare` says it: each a run, or several runs of the same thing.

    A run is one that was loaded, or its path, or a report that was saved as JSON. Raises ShardprofError where there is
    nothing to read.
    """
    from shardprof import frames

    return frames.compare(a, b)


def record(
    out: str | os.PathLike[str] | None = None,
    *,
    steps: range | None = range(2, 7),
    stack: bool = False,
    memory: bool = False,
) -> Block:
    """Record what trains inside `with shardprof.record() as recording:`, in a script, on every rank, or in a notebook.

    `out` is the run folder (default: a new one under shardprof-runs/), `steps` those that torch.profiler captures,
    counted from the begin of the block: by default two pass, so that short blocks have some too; None captures none.
    With `stack` Python's call stacks are recorded in captured steps, with `memory` allocations. Afterwards
    `recording.run` is the run. Raises ShardprofError where `steps` is no range of steps; the block itself never fails
    for our reasons, and what it raises goes on unchanged. docs/integrations.md has the limits.
    """
    from shardprof.recording import block

    return block.block(out, steps, stack=stack, memory=memory)


def step() -> None:
    """Mark the end of a training step by hand, for loops whose steps shardprof cannot see by itself.

    From the first call on, only these marks end a step in this process. Without a recording it does nothing.
    """
    import sys

    agent = sys.modules.get("shardprof.recording.rank.agent")
    if agent is not None:
        agent.mark_step_by_user()
