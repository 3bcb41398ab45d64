"""What the callback of any trainer does: record the training, mark its steps, have what came out explained."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import shardprof
from shardprof import explaining
from shardprof.recording.block import Block, folder_of, plan_of
from shardprof.recording.shield import shielded
from shardprof.trace.live import has_outcome
from shardprof.trace.schema import RunFolder

OTHERS_WITHIN_S = 30.0


class Training:
    """A trainer's training, once `begin` was called. Making it raises ShardprofError where `steps` is no range of
    steps; nothing else raises for our reasons, and no rank waits for us."""

    _last: Training | None = None

    def __init__(self, out: str | os.PathLike[str] | None, steps: range | None, *, stack: bool, memory: bool) -> None:
        plan = plan_of(steps, stack=stack, memory=memory)
        self._new_block: Callable[[], Block] = functools.partial(Block, folder_of(out), plan)
        self._block: Block | None = None

    @shielded
    def begin(self) -> None:
        """The first step is about to begin. An earlier training of this process that came to no end is over."""
        if Training._last is not None:
            Training._last.end(failed=True)
        Training._last = self
        self._block = self._new_block().__enter__()
        if agent := sys.modules.get("shardprof.recording.rank.agent"):
            agent.expect_user_marks()

    def step(self) -> None:
        """A step has ended."""
        shardprof.step()

    @shielded
    def end(self, *, failed: bool = False) -> None:
        """The last step has ended: a process beside rank 0 says what bounds it, where it has not `failed`."""
        if Training._last is self:
            Training._last = None
        block, self._block = self._block, None
        if block is None:
            return
        block.leave(int(failed))
        if not failed and block.rank == 0:
            explaining.start(__name__, str(block.folder))


def main(folder: str, starter: str) -> None:
    """The process beside rank 0, which is `starter`."""
    run = RunFolder(Path(folder))
    explaining.explain(
        run.root, starter, lambda: None if has_outcome(run) else "not all ranks have left it", within_s=OTHERS_WITHIN_S
    )
