"""Records and explains distributed PyTorch training, step by step and rank by rank.

Only `step` is meant for training scripts; importing this package loads nothing heavy, so that it may be
imported inside every rank.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["ShardprofError", "__version__", "step"]

from shardprof.errors import ShardprofError


def step() -> None:
    """Mark the end of a training step by hand, for loops whose steps shardprof cannot see by itself.

    From the first call on, only these marks end a step in this process. Without a recording it does nothing.
    """
    import sys

    agent = sys.modules.get("shardprof.record.agent")
    if agent is not None:
        agent.mark_step_by_user()
