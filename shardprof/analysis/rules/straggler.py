"""R16 to R19: a rank keeps the others waiting: slower compute, a late CPU, late data, more work, a slow link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from shardprof.analysis.result import Finding, Straggler
from shardprof.analysis.rules._case import Case, Turn

_RULES: Mapping[str, tuple[str, str, Turn]] = {
    "compute": (
        "R16",
        "is slower at the same work",
        Turn(
            advice="look at the node: clocks, power cap, temperature, other processes; take it out if it stays slow",
            knob="nvidia-smi -q -d PERFORMANCE,CLOCK on that node",
            side_effect="a job without the node has fewer ranks",
            disproof="the same rank on another node is as slow",
        ),
    ),
    "imbalance": (
        "R16",
        "has more work than the others",
        Turn(
            advice="give it less: batches of sequences of one length, stages of a pipeline cut anew, equal shards",
            knob="the sampler, or the cut of the pipeline's stages",
            side_effect="batches that are no longer drawn at random",
            disproof="its operators take longer though shapes are the same",
        ),
    ),
    "launch": (
        "R17",
        "launches its work late",
        Turn(
            advice="find what its CPU does instead: garbage collection, logging, checkpoints, another process, NUMA",
            knob="gc.disable(), and gc.collect() every 1,000 steps on all ranks at once; numactl --cpunodebind; "
            "`shardprof record --stacks` shows what it does",
            side_effect="garbage that is collected later takes memory until then",
            disproof="its stacks while the others wait are those of the others",
        ),
    ),
    "data_loading": (
        "R18",
        "waits for its data",
        Turn(
            advice="look at its shard and its disk: larger samples, a slow mount, fewer workers than elsewhere",
            knob="equal shards for DistributedSampler, a local copy, DataLoader(num_workers=...) on that rank",
            side_effect="memory for each worker's batches",
            disproof="another rank that reads the same shard is as fast as the others",
        ),
    ),
    "link": (
        "R19",
        "has a slow link",
        Turn(
            advice="test the link of its node to each other node, then the cable, the port and the interface",
            knob="NCCL_SOCKET_IFNAME, NCCL_IB_HCA (or GLOO_SOCKET_IFNAME) on that node",
            side_effect="none, if the interface reaches all nodes",
            disproof="an all-reduce between two other nodes is as slow",
        ),
    ),
}

_ON_CPU = "top on that node; cores of its own for each rank: numactl --physcpubind, or taskset -c"
"""Where no GPU computes, what shows and mends that a rank is slower at the same work."""


def find(case: Case) -> Iterator[Finding]:
    """A finding for each rank that the comparison of ranks has named with a cause."""
    for straggler in case.result.stragglers or ():
        if straggler.cause in _RULES:
            yield _finding(straggler, case)


def _finding(straggler: Straggler, case: Case) -> Finding:
    rule, what, turn = _RULES[straggler.cause]
    if straggler.cause == "compute" and not case.on_gpu:
        turn = replace(turn, knob=_ON_CPU)
    title = f"Rank {straggler.rank} {what}, and the others wait for it"
    return case.finding(rule, title, list(straggler.evidence), straggler.cost_ns_per_step, turn)
