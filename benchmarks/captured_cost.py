"""A training whose steps are captured by turns: by shardprof, and by torch.profiler as its documentation has it.

    shardprof record --steps 35:40 --repeat CYCLES -- torchrun ... benchmarks/captured_cost.py CYCLES VIT_ARGUMENTS...

A cycle is 40 steps, 20 for each of the two: five as they are, two of warm-up, five captured, eight to come to rest.
Both sides of a pair run within seconds of each other in one process. Rank 0 prints `captured_cost JSON`: for every
half cycle, [wall, CPU of the process] in seconds of a bare step, of a captured step, of the export (all that the first
step after the window took longer), of the window (its captured steps and the export), and of all that it added to the
15 steps from its warm-up on.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile, schedule

from shardprof.recording.rank import agent

Times = npt.NDArray[np.float64]
FIRST, CAPTURED, HALF, WARMUP, AFTER = 35, 5, 20, 2, 8
CYCLE = 2 * HALF


class Clock:
    """The wall and CPU times at which each step ended."""

    def __init__(self) -> None:
        self.ends: dict[int, Times] = {}

    def stepped(self, step: int) -> None:
        self.ends[step] = np.array([time.perf_counter(), time.process_time()])

    def halves(self, cycles: int) -> list[dict[str, list[float]]]:
        """Ours and torch's by turns."""
        firsts = [FIRST + half * HALF for half in range(2 * cycles)]
        return [{what: times.tolist() for what, times in self._half(first).items()} for first in firsts]

    def _half(self, first: int) -> dict[str, Times]:
        end = first + CAPTURED
        bare = self._median(range(first - WARMUP - CAPTURED, first - WARMUP))
        whole = self.ends[end + AFTER - 1] - self.ends[first - WARMUP - 1]
        captured = self._median(range(first, end))
        export = self._of(end) - bare
        return {
            "bare": bare,
            "captured": captured,
            "export": export,
            "window": CAPTURED * captured + export,
            "added": whole - (WARMUP + CAPTURED + AFTER) * bare,
        }

    def _of(self, step: int) -> Times:
        return self.ends[step] - self.ends[step - 1]

    def _median(self, steps: Sequence[int]) -> Times:
        return np.asarray(np.median([self._of(step) for step in steps], axis=0))


class OwnProfiler:
    """torch.profiler around the captured steps of every second half cycle; between them it does not exist."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "trace.json")
        self._profiler: profile | None = None

    def stepped(self, step: int) -> None:
        if self._profiler is not None:
            self._profiler.step()
        since_first = (step + 1 - FIRST - HALF) % CYCLE  # of the step that begins now
        if step >= FIRST and since_first == CYCLE - WARMUP:
            self._profiler = profile(
                activities=[ProfilerActivity.CPU],
                schedule=schedule(wait=0, warmup=WARMUP, active=CAPTURED, repeat=1),
                record_shapes=True,
                on_trace_ready=lambda done: done.export_chrome_trace(self._path),
            )
            self._profiler.start()
        elif self._profiler is not None and since_first == CAPTURED:
            self._profiler.stop()
            self._profiler.profiler = None  # else what it holds is freed much later, and at nobody's account
            self._profiler = None


def main() -> None:
    cycles = int(sys.argv[1])
    sys.argv = ["vit", *sys.argv[2:]]
    clock = Clock()
    profiler = OwnProfiler(Path(tempfile.mkdtemp()))

    def stepped(*_: object) -> None:
        watching = agent._agent
        if watching is not None and watching.recorder is not None:
            step = watching.recorder.clock.step  # as shardprof counts: DeepSpeed's optimizer has steps of its own
            clock.stepped(step)
            profiler.stepped(step)

    register_optimizer_step_post_hook(stepped)
    try:
        runpy.run_module("shardprof.study.workloads.vit", run_name="__main__")
    finally:
        if os.environ.get("RANK", "0") == "0":
            print(f"captured_cost {json.dumps(clock.halves(cycles))}", flush=True)


if __name__ == "__main__":
    main()
