"""A training that captures steps FIRST to END - 1 with torch.profiler by itself, as its documentation has it: what
`shardprof record --steps` is compared with.

    torchrun ... benchmarks/own_profiler.py FIRST END VIT_ARGUMENTS...
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile, schedule


def main() -> None:
    first, end = int(sys.argv[1]), int(sys.argv[2])
    sys.argv = ["vit", *sys.argv[3:]]
    folder = Path(tempfile.mkdtemp())
    plan = schedule(wait=first - 2, warmup=2, active=end - first, repeat=1)
    profiler = profile(
        activities=[ProfilerActivity.CPU],
        schedule=plan,
        record_shapes=True,
        on_trace_ready=lambda done: done.export_chrome_trace(str(folder / "trace.json")),
    )
    register_optimizer_step_post_hook(lambda *_: profiler.step())
    with profiler:
        runpy.run_module("shardprof.study.workloads.vit", run_name="__main__")


if __name__ == "__main__":
    main()
