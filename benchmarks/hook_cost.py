"""A training that is recorded by turns: a block of steps with the recorder, a block without it, and so on.

    shardprof record --mode light -- torchrun ... benchmarks/hook_cost.py BLOCKS STEPS VIT_ARGUMENTS...

Both sides of a pair run within a second of each other in one process, so that a machine whose speed drifts tells the
difference all the same. Rank 0 prints `hook_cost JSON`: of each block its wall time and the CPU time of the rank.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
import time
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from shardprof.recording.rank import agent


class Turns:
    """Counts optimizer steps, and takes the recorder away for every second block of them."""

    def __init__(self, blocks: int, steps: int) -> None:
        self._blocks = blocks
        self._steps = steps
        self._step = 0
        self._recorder: Any = None
        self._begin = (0.0, 0.0)
        self.times: list[tuple[float, float]] = []

    def stepped(self, *_: object) -> None:
        self._step += 1
        if self._step % self._steps:
            return
        now = time.perf_counter(), time.process_time()
        block = self._step // self._steps
        if 1 < block <= self._blocks + 1:  # the first one warms up
            self.times.append((now[0] - self._begin[0], now[1] - self._begin[1]))
        self._toggle(is_recorded=block % 2 == 1)
        self._begin = time.perf_counter(), time.process_time()

    def _toggle(self, *, is_recorded: bool) -> None:
        watching = agent._agent
        assert watching is not None
        self._recorder = self._recorder or watching.recorder
        watching.recorder = self._recorder if is_recorded else None


def main() -> None:
    turns = Turns(int(sys.argv[1]), int(sys.argv[2]))
    sys.argv = ["vit", *sys.argv[3:]]
    gc.disable()  # a collection is a block's bad luck
    register_optimizer_step_post_hook(turns.stepped)
    try:
        runpy.run_module("shardprof.study.workloads.vit", run_name="__main__")
    except SystemExit:
        if os.environ.get("RANK", "0") == "0":
            print(f"hook_cost {json.dumps(turns.times)}", flush=True)
        raise


if __name__ == "__main__":
    main()
