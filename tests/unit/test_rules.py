"""Each diagnosis has a run that shows its symptom and one that does not; knobs are those of the framework at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from shardprof.analysis.result import (
    Collective,
    Evidence,
    Finding,
    KindSummary,
    ModelState,
    Result,
    Straggler,
    Volume,
    Volumes,
)
from tests.unit.builders import MS, collective, findings, rank, result, step

SETTINGS: dict[str, Any] = {
    "strategy": "ZeRO-2", "zero_stage": 2, "parameters": 1_000_000_000, "reduce_bucket_elements": 500_000_000,
    "overlap_comm": False, "use_multi_rank_bucket_allreduce": True, "precision": "bf16", "reduce_dtype": "bf16",
}  # fmt: skip


def case(
    framework: str = "", settings: Mapping[str, Any] | None = None, *, kinds: tuple[KindSummary, ...] = (),
    volumes: Volumes | None = None, stragglers: tuple[Straggler, ...] = (), **parts_ms: float,
) -> Result:  # fmt: skip
    """Two ranks with five steps each, which consist of `parts_ms`."""
    ranks = [rank(number, *(step(s, **(parts_ms or {"compute": 100})) for s in range(5))) for number in range(2)]
    made = result(*ranks, source={"framework": framework, "settings": dict(settings or {})})
    assert made.summary is not None
    assert made.summary.steps is not None
    if kinds:
        made = replace(made, summary=replace(made.summary, steps=replace(made.summary.steps, kinds=kinds)))
    return replace(made, volumes=volumes, stragglers=stragglers)


def kind(
    name: str, *, calls: int = 10, mb: float = 100, exposed_ms: float = 30, overlapped_ms: float = 0
) -> KindSummary:
    """A kind of communication, with figures of one step: the summary has ten steps."""
    return KindSummary(
        kind=name,
        calls=10 * calls,
        payload_bytes=round(10 * mb * 1e6),
        comm_ns=round(10 * (exposed_ms + overlapped_ms) * MS),
        exposed_ns=round(10 * exposed_ms * MS),
        overlapped_ns=round(10 * overlapped_ms * MS),
    )


def volumes(
    ratio: float = 1.0, *, micro_batches: int = 1, reductions: int = 1, buckets_gb: float = 0.0, states_gb: float = 10.0
) -> Volumes:
    """What a strategy moves, by `ratio` more than it needs, and holds."""
    total = Volume(
        kind="total", theory_bytes=100, expected_bytes=None, measured_bytes=round(100 * ratio),
        measured_per_theory=ratio, measured_per_expected=None,
    )  # fmt: skip
    states = [("parameters", states_gb), ("buckets", buckets_gb)]
    return Volumes(
        micro_batches=micro_batches, reductions=reductions, kinds=(), total=total, reasons=("because",),
        model_states=tuple(ModelState(part=p, expected_bytes=None, measured_bytes=round(gb * 1e9)) for p, gb in states),
    )  # fmt: skip


def moving(**busbw_gbps: float) -> tuple[Collective, ...]:
    """Collectives of these bus bandwidths, by kind."""
    return tuple(collective(name, "default_pg", [0, 1], busbw_gbps=value) for name, value in busbw_gbps.items())


def straggler(cause: str) -> Straggler:
    evidence = Evidence(message="comes last", rank=1, step=None, begin_ns=None, end_ns=None)
    return Straggler(rank=1, cause=cause, cost_ns_per_step=20 * MS, steps=5, of_steps=5, evidence=(evidence,))


BIG_BUCKET = {**SETTINGS, "parameters": 50_000_000}
ZERO3 = {**SETTINGS, "zero_stage": 3, "strategy": "ZeRO-3", "stage3_param_persistence_threshold": 100_000}
GRADIENTS = (kind("all_reduce"),)
TINY = (kind("all_gather", calls=40, mb=4, exposed_ms=30),)

POSITIVE: dict[str, tuple[Result, float | None, str]] = {
    "R04": (case("DeepSpeed", SETTINGS, kinds=(kind("all_reduce", overlapped_ms=30),), volumes=volumes(1.5)), 15,
            "fully_shard"),
    "R05": (case("DeepSpeed", BIG_BUCKET, kinds=GRADIENTS), 30, '"reduce_bucket_size": 5000000'),
    "R06": (case("FSDP2", kinds=TINY), 30, "fully_shard([a, b, c])"),
    "R12": (case("DeepSpeed", BIG_BUCKET, volumes=volumes(buckets_gb=2, states_gb=0.5)), None, "reduce_bucket_size"),
    "R13": (case("FSDP2", compute=70, launch_bound=30), 30, "fully_shard"),
    "R14": (case(compute=90, data_loading=10), 10, "num_workers"),
    "R16": (case(stragglers=(straggler("compute"),)), 20, "nvidia-smi"),
    "R17": (case(stragglers=(straggler("launch"),)), 20, "gc.collect()"),
    "R18": (case(stragglers=(straggler("data_loading"),)), 20, "DistributedSampler"),
    "R19": (case(stragglers=(straggler("link"),)), 20, "NCCL_SOCKET_IFNAME"),
    "R21": (case("FSDP2", kinds=(kind("reduce_scatter", overlapped_ms=30),),
                 volumes=volumes(micro_batches=4, reductions=4)), 22.5, "set_requires_gradient_sync(False)"),
    "R27": (case("DeepSpeed", {**ZERO3, "persistent_parameters": 100_000_000}), None, "persistence_threshold"),
    "R28": (case("FSDP2", {"precision": "bf16", "reduce_dtype": "fp32"}, kinds=(kind("reduce_scatter"),)), 15,
            "reduce_dtype=torch.bfloat16"),
}  # fmt: skip

NEGATIVE: dict[str, Result] = {
    "a healthy run": case(compute=95, all_gather=3, data_loading=2),
    "R04, what it needs": case("DeepSpeed", SETTINGS, volumes=volumes(1.05)),
    "R04, another framework": case("FSDP2", kinds=GRADIENTS, volumes=volumes(1.5)),
    "R04, reduced to the owner": case(
        "DeepSpeed", {**SETTINGS, "use_multi_rank_bucket_allreduce": False, "overlap_comm": True}, volumes=volumes(1.5)
    ),
    "R05, overlapped": case("DeepSpeed", BIG_BUCKET, kinds=(kind("all_reduce", overlapped_ms=20),)),
    "R05, buckets that fill": case(
        "DeepSpeed", {**SETTINGS, "overlap_comm": True, "parameters": 10**10}, kinds=GRADIENTS
    ),
    "R05, hardly any": case("DeepSpeed", BIG_BUCKET, kinds=(kind("all_reduce", exposed_ms=1),)),
    "R06, large calls": case("FSDP2", kinds=(kind("all_gather", calls=40, mb=400),)),
    "R06, few calls": case("FSDP2", kinds=(kind("all_gather", calls=2, mb=0.1),)),
    "R06, hidden": case("FSDP2", kinds=(kind("all_gather", calls=40, mb=4, exposed_ms=1, overlapped_ms=60),)),
    "R06, as fast as large ones": replace(
        case("FSDP2", kinds=TINY), collectives=moving(all_gather=10, reduce_scatter=12)
    ),
    "R06, not that small": case("FSDP2", kinds=(kind("all_gather", calls=40, mb=20),)),
    "R06, size unknown": case("FSDP2", kinds=(replace(TINY[0], payload_bytes=None),)),
    "R12, a model larger than the bucket": case("DeepSpeed", SETTINGS, volumes=volumes(buckets_gb=1, states_gb=16)),
    "R13, some launches": case(compute=90, launch_bound=10),
    "R14, some loading": case(compute=96, data_loading=4),
    "R16, nobody knows why": case(stragglers=(straggler("unknown"),)),
    "R21, once a step": case("FSDP2", kinds=GRADIENTS, volumes=volumes(micro_batches=4, reductions=1)),
    "R21, one micro-batch": case("FSDP2", kinds=GRADIENTS, volumes=volumes()),
    "R27, sharded": case("DeepSpeed", {**ZERO3, "persistent_parameters": 1000}),
    "R27, not told": case("DeepSpeed", ZERO3),
    "R28, full precision": case("FSDP2", {"precision": "fp32", "reduce_dtype": "fp32"}, kinds=GRADIENTS),
    "R28, hidden": case(
        "FSDP2", {"precision": "bf16", "reduce_dtype": "fp32"},
        kinds=(kind("reduce_scatter", exposed_ms=0, overlapped_ms=40),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", POSITIVE)
def test_a_symptom_is_found_with_its_cost_and_knob(rule: str) -> None:
    shown, cost_ms, knob = POSITIVE[rule]
    (found,) = findings(shown)
    assert found.rule == rule
    assert found.cost_ns_per_step == (None if cost_ms is None else pytest.approx(cost_ms * MS))
    assert knob in found.knob
    assert all((found.title, found.advice, found.side_effect, found.disproof, found.evidence))


@pytest.mark.parametrize("name", NEGATIVE)
def test_nothing_is_found_without_the_symptom(name: str) -> None:
    assert findings(NEGATIVE[name]) == ()


def test_calls_that_are_slow_beside_larger_ones_are_small_whatever_their_size() -> None:
    medium = case("FSDP2", kinds=(kind("all_gather", calls=40, mb=20),))
    (found,) = findings(replace(medium, collectives=moving(all_gather=2, reduce_scatter=12)))
    assert found.rule == "R06"


def test_knobs_of_all_frameworks_are_named_where_it_is_not_known() -> None:
    (found,) = findings(case("", compute=70, launch_bound=30))
    assert "FSDP1:" in found.knob
    assert "DeepSpeed:" in found.knob


def test_a_slow_rank_without_gpus_is_looked_at_without_their_tools() -> None:
    made = case(stragglers=(straggler("compute"),))
    (found,) = findings(replace(made, ranks=tuple(replace(rank, device="cpu") for rank in made.ranks)))
    assert "nvidia" not in found.knob
    assert "numactl" in found.knob


def test_what_wins_most_comes_first() -> None:
    made = case("FSDP2", compute=50, launch_bound=20, data_loading=30)
    found = findings(replace(made, stragglers=(straggler("link"),)))
    assert [finding.rule for finding in found] == ["R14", "R13", "R19"]
    assert [finding.severity for finding in found] == ["high", "high", "high"]


def test_severity_is_the_share_of_a_step() -> None:
    def severity(cost_ms: float) -> str:
        found: Finding
        (found,) = findings(case(stragglers=(replace(straggler("link"), cost_ns_per_step=round(cost_ms * MS)),)))
        return found.severity

    assert [severity(cost_ms) for cost_ms in (2, 4, 11)] == ["low", "medium", "high"]


def test_without_captured_steps_there_are_none() -> None:
    assert findings(result(rank(0))) == ()
