"""R13: the GPU waits for the CPU to launch work."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said

LEAST_SHARE = 0.15
_KNOBS = {
    "FSDP2": "torch.compile(model), or fewer units: fully_shard([block_1, block_2, ...]) of small modules together",
    "FSDP1": "torch.compile(model), or larger units in auto_wrap_policy",
    "DDP": "torch.compile(model), or CUDA graphs",
    "DeepSpeed": "engine.compile(), a larger train_micro_batch_size_per_gpu, stage3_module_granularity_threshold",
}


def find(case: Case) -> Iterator[Finding]:
    """Where the GPU is idle for more than LEAST_SHARE of a step because what comes next was launched too late."""
    share = case.steps.share("launch_bound")
    if share <= LEAST_SHARE:
        return
    cost_ns = share * case.step_ns
    yield case.finding(
        "R13",
        f"The GPU waits for its CPU to launch work, {share:.0%} of a step".replace("%", " %"),
        [
            said("what ends the GPU's idleness was launched after the idleness began"),
            case.worst("launch_bound", "it waits longest here"),
        ],
        cost_ns,
        Turn(
            advice="give the GPU more work with each launch: compile, capture graphs, larger batches, fused optimizers",
            knob=of_framework(_KNOBS, case) + "; torch.optim.AdamW(fused=True)",
            side_effect="compiling takes time at the start and whenever shapes change; larger batches take memory",
            disproof="twice the batch makes the step twice as long: then the GPU was not waiting",
        ),
    )
