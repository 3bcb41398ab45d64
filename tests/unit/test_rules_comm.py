"""Communication that bounds a step: each rule has a planted run that shows its symptom, and the same run without it.

Runs are recorded ones, of a GPU or of gloo; times are in microseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trace, distributed_info
from tests.unit.planted_runs import FSDP2, MB, US, Gpu, Plan, findings, on_gpu

STEPS = 3
ZERO3 = {
    "strategy": "ZeRO-3", "zero_stage": 3, "mesh": [2],
    "parameters": 20 * MB, "parameter_bytes": 80 * MB, "gather_bytes": 80 * MB,
    "stage3_prefetch_bucket_elements": MB, "stage3_max_reuse_distance": MB, "stage3_max_live_parameters": MB,
}  # fmt: skip
ZERO2 = {"strategy": "ZeRO-2", "zero_stage": 2, "mesh": [2], "parameters": 20 * MB, "parameter_bytes": 80 * MB}


def on_cpu(*, asynchronous: bool = False, elements: int = 5 * MB) -> Trace:
    """A rank with gloo: four units of 200 us are gathered and compute 400 us, in forward and in backward."""
    trace = Trace(distributed_info(0, [0, 1]))
    for number in range(STEPS):
        at = begin = 10 + number * 6000
        for phase in ("forward", "backward"):
            phase_begin = at
            for unit in range(4):
                trace.call("_allgather_base_", at * US, [elements], [elements // 2])
                trace.transfer("all_gather", (at + 5) * US, (at + 205) * US, elements // 2)
                at += 5 if asynchronous and unit else 206
                for _ in range(4):
                    trace.event("aten::addmm", at * US, (at + 100) * US)
                    at += 100
            if phase == "backward":
                node = "autograd::engine::evaluate_function: AddmmBackward0"
                trace.event(node, phase_begin * US, at * US)
        trace.step(number, begin * US, (at + 10) * US)
    return trace


LATE = ("forward", "backward")


@pytest.mark.parametrize(("rule", "phase"), [("R01", "forward"), ("R02", "backward")])
@pytest.mark.parametrize(
    ("framework", "settings", "knobs"),
    [
        ("FSDP2", FSDP2, ("set_modules_to_forward_prefetch", "reshard_after_forward=False")),
        ("FSDP1", FSDP2, ("forward_prefetch=True", "SHARD_GRAD_OP")),
        ("DeepSpeed", ZERO3, ('"stage3_prefetch_bucket_size": 2000000', '"stage3_max_reuse_distance": 40000001')),
    ],
)
def test_all_gathers_that_come_late_cost_their_time(
    tmp_path: Path, rule: str, phase: str, framework: str, settings: dict[str, Any], knobs: tuple[str, str]
) -> None:
    found = findings(tmp_path, [on_gpu(Plan(late=(phase,)))], framework, settings)
    assert list(found) == [rule]
    assert found[rule].cost_ns_per_step == pytest.approx(800 * US, rel=0.05)
    assert found[rule].knob.count("_set_unshard_async_op") == 0
    assert knobs[rule == "R02"] in found[rule].knob
    assert "the 4 all-gathers of " + phase in found[rule].evidence[0].message
    (longest,) = found[rule].evidence[1:]
    assert (longest.end_ns or 0) - (longest.begin_ns or 0) == 200 * US


def test_what_is_kept_gathered_takes_memory(tmp_path: Path) -> None:
    found = findings(tmp_path, [on_gpu(Plan(late=("backward",)))])
    assert found["R02"].side_effect.startswith("80 MB of whole parameters")


@pytest.mark.parametrize(
    ("framework", "settings"),
    [
        ("DDP", {"strategy": "DDP"}),
        ("FSDP2", {**FSDP2, "mesh": [1]}),  # beside it tensors are parallel
        ("DeepSpeed", ZERO2),
        ("DeepSpeed", {**ZERO3, "stage3_prefetch_bucket_elements": 5e7, "stage3_max_reuse_distance": 1e9,
                       "stage3_max_live_parameters": 1e9}),
    ],
)  # fmt: skip
def test_all_gathers_that_no_setting_moves_are_not_found(
    tmp_path: Path, framework: str, settings: dict[str, Any]
) -> None:
    assert findings(tmp_path, [on_gpu(Plan(late=LATE))], framework, settings) == {}


def test_where_the_framework_is_not_known_the_knobs_of_both_fsdps_are_named(tmp_path: Path) -> None:
    found = findings(tmp_path, [on_gpu(Plan(late=LATE))], "", {})
    assert {"R01", "R02"} <= set(found)
    assert all(f"{name}: " in found["R01"].knob for name in ("FSDP1", "FSDP2"))


def test_all_gathers_in_time_are_not_found(tmp_path: Path) -> None:
    assert findings(tmp_path, [on_gpu(Plan())]) == {}


def test_all_gathers_without_a_break_cannot_be_launched_earlier(tmp_path: Path) -> None:
    found = findings(tmp_path, [on_gpu(Plan(gather=600))])
    assert list(found) == ["R02"], "but those of backward can be spared"


def test_what_is_waited_for_a_late_rank_is_not_the_all_gathers(tmp_path: Path) -> None:
    waiting, late = Plan(gather=400, late=LATE, tail=380), Plan(gather=20, compute=780, late=LATE, head=380)
    found = findings(tmp_path, [on_gpu(waiting), on_gpu(late, rank=1)])
    assert not {"R01", "R02"} & set(found)


WAITED = 3000


def before_the_first_unit(rank: int) -> Trace:
    """Four units late in forward, of 200 us; rank 1 comes to the first of them WAITED later than rank 0, whose call
    therefore lasts so much longer. Backward gathers as much in time."""
    gpu = Gpu(rank)
    for number in range(STEPS):
        begin = gpu.now
        gpu.operators()
        gpu.compute(200 + WAITED * rank)
        computed = gpu.compute(100)
        for unit in range(4):
            waited = WAITED if rank == 0 and unit == 0 else 0
            gathered = gpu.communicate("all_gather", 200 + waited, 20, after=computed)
            computed = gpu.compute(400, after=gathered)
        backward = gpu.now
        gpu.units(4, 200, 400, 20, late=False)
        gpu.backward(backward)
        gpu.end_step(number, begin)
    return gpu.trace


def test_all_gathers_of_forward_cost_what_they_do_not_wait(tmp_path: Path) -> None:
    found = findings(tmp_path, [before_the_first_unit(rank) for rank in range(2)])
    assert found["R01"].cost_ns_per_step == pytest.approx(800 * US, rel=0.1)
    step_us = 200 + WAITED + 100 + 4 * 600 + 200 + 4 * 400
    share = round(100 * 800 / step_us)
    assert any(f" {near} %" in found["R01"].title for near in (share - 1, share, share + 1)), found["R01"].title
    whole, longest = found["R01"].evidence
    assert "beside 1.5 ms that wait for late ranks" in whole.message
    assert ((longest.end_ns or 0) - (longest.begin_ns or 0)) == 200 * US, "not the one that waits"


def test_tiny_all_gathers_are_found_once(tmp_path: Path) -> None:
    tiny = Plan(units=20, gather=40, compute=50, unit_mb=0.05, late=LATE)
    assert list(findings(tmp_path, [on_gpu(tiny)])) == ["R06"]


@pytest.mark.parametrize("framework", ["FSDP1", "FSDP2"])
def test_gloo_gathers_beside_compute_only_where_nothing_waits_for_the_call(tmp_path: Path, framework: str) -> None:
    found = findings(tmp_path / "waits", [on_cpu()], framework, device="cpu")
    assert list(found) == ["R01", "R02"]
    for finding in found.values():
        assert "model._set_unshard_async_op(True)" in finding.knob
        assert finding.cost_ns_per_step == pytest.approx(800 * US, rel=0.05)
    assert findings(tmp_path / "goes on", [on_cpu(asynchronous=True)], framework, device="cpu") == {}


GIANT = Plan(units=1, gather=800, compute=1600, unit_mb=80, gathers_again=False, reduce=800)
ONE_UNIT = {**FSDP2, "units": 1, "units_gathered_again": 0, "gather_again_bytes": 0, "units_reduced": 1}


@pytest.mark.parametrize(
    ("framework", "settings", "knob"),
    [
        ("FSDP2", ONE_UNIT, "fully_shard(block) for each block"),
        ("FSDP1", ONE_UNIT, "auto_wrap_policy"),
        ("DeepSpeed", {**ZERO3, "stage3_prefetch_bucket_elements": 5e7}, '"stage3_prefetch_bucket_size": 2000000'),
    ],
)
def test_a_model_in_one_unit_hides_nothing(tmp_path: Path, framework: str, settings: dict[str, Any], knob: str) -> None:
    found = findings(tmp_path, [on_gpu(GIANT)], framework, settings)
    assert list(found) == ["R07"]
    assert found["R07"].title == "One all-gather moves 100 % of the parameters"
    assert found["R07"].cost_ns_per_step == pytest.approx(1600 * US, rel=0.05)
    assert knob in found["R07"].knob


def test_half_of_the_model_is_giant_and_less_is_not(tmp_path: Path) -> None:
    two, three = Plan(units=2, unit_mb=40, late=LATE), Plan(units=3, unit_mb=27)
    assert list(findings(tmp_path / "two", [on_gpu(two)])) == ["R07"]
    assert findings(tmp_path / "three", [on_gpu(three)]) == {}


def test_a_giant_unit_that_nobody_waits_for_takes_memory(tmp_path: Path) -> None:
    quick = Plan(units=1, gather=20, compute=4000, unit_mb=80, gathers_again=False)
    assert findings(tmp_path, [on_gpu(quick)], settings=ONE_UNIT)["R07"].cost_ns_per_step is None


@pytest.mark.parametrize(
    ("framework", "settings", "unit_mb"),
    [
        ("DDP", ONE_UNIT, 80),
        ("FSDP2", {}, 80),
        ("FSDP2", ONE_UNIT, 200),  # of activations
        ("FSDP2", {**ONE_UNIT, "gather_bytes": 8 * MB}, 8),
        ("DeepSpeed", ZERO3, 80),
    ],
)
def test_other_large_all_gathers_are_no_giant_unit(
    tmp_path: Path, framework: str, settings: dict[str, Any], unit_mb: float
) -> None:
    large = Plan(units=1, gather=800, compute=1600, unit_mb=unit_mb, gathers_again=False)
    assert "R07" not in findings(tmp_path, [on_gpu(large)], framework, settings)


def test_parameters_gathered_after_the_step_cost_their_time(tmp_path: Path) -> None:
    serial = Plan(gather=0, gathers_again=False, after_step=600)
    found = findings(tmp_path / "zero2", [on_gpu(serial)], "DeepSpeed", ZERO2)
    assert list(found) == ["R08"]
    assert found["R08"].cost_ns_per_step == pytest.approx(600 * US, rel=0.05)
    assert "of 80 MB" in found["R08"].evidence[0].message
    assert findings(tmp_path / "zero3", [on_gpu(serial)], "DeepSpeed", ZERO3) == {}
    short = Plan(gather=0, gathers_again=False, after_step=150)
    assert findings(tmp_path / "short", [on_gpu(short)], "DeepSpeed", ZERO2) == {}
    in_forward = Plan(late=("forward",), gathers_again=False)
    assert findings(tmp_path / "in forward", [on_gpu(in_forward)], "DeepSpeed", ZERO2) == {}


def test_padding_costs_its_part_of_what_is_moved(tmp_path: Path) -> None:
    padded = {**FSDP2, "gather_bytes": 120 * MB}
    found = findings(tmp_path / "late", [on_gpu(Plan(unit_mb=30, late=LATE))], settings=padded)
    assert found["R26"].title == "Sharding among 2 ranks makes the parameters 1.50x as large"
    assert found["R26"].cost_ns_per_step == pytest.approx(1600 * US / 3, rel=0.05)
    hidden = findings(tmp_path / "hidden", [on_gpu(Plan(gather=20, compute=1000))], settings=padded)
    assert hidden["R26"].cost_ns_per_step is None
    little = {**FSDP2, "gather_bytes": 84 * MB}
    assert findings(tmp_path / "little", [on_gpu(Plan())], settings=little) == {}
    assert findings(tmp_path / "FSDP1", [on_gpu(Plan())], "FSDP1", padded) == {}
    small = {**FSDP2, "parameter_bytes": MB, "gather_bytes": 1.5 * MB}
    assert findings(tmp_path / "small", [on_gpu(Plan())], settings=small) == {}


def job(plan: Plan) -> list[Trace]:
    return [on_gpu(plan, rank, range(4)) for rank in range(4)]


NODES = ("node-a", "node-a", "node-b", "node-b")


@pytest.mark.parametrize(
    ("framework", "settings", "knob"),
    [
        ("FSDP2", FSDP2, 'init_device_mesh("cuda", (2, 2), mesh_dim_names=("replicate", "shard"))'),
        ("FSDP1", FSDP2, "HYBRID_SHARD"),
        ("DeepSpeed", ZERO3, '"zero_hpz_partition_size": 2'),
    ],
)
def test_shards_among_nodes_are_waited_for(tmp_path: Path, framework: str, settings: dict[str, Any], knob: str) -> None:
    found = findings(tmp_path, job(Plan(late=LATE)), framework, {**settings, "mesh": [4]}, NODES)
    assert found["R03"].cost_ns_per_step == pytest.approx(1600 * US, rel=0.05)
    assert "4 ranks on 2 nodes" in found["R03"].evidence[0].message
    assert "the bus bandwidth of all-gather is 75 GB/s" in found["R03"].evidence[0].message
    assert knob in found["R03"].knob


def test_replicas_among_nodes_are_reduced_less_often(tmp_path: Path) -> None:
    reducing = Plan(gather=0, gathers_again=False, reduce=1600, reduce_kind="all_reduce")
    found = findings(tmp_path, job(reducing), "DDP", {"strategy": "DDP"}, NODES)
    assert "no_sync" in found["R03"].knob


def test_what_stays_within_a_node_or_is_hidden_is_not_between_nodes(tmp_path: Path) -> None:
    assert "R03" not in findings(tmp_path / "node", job(Plan(late=LATE)), hosts=["node-a"] * 4)
    assert "R03" not in findings(tmp_path / "hidden", job(Plan()), hosts=NODES)
    tiny = Plan(units=20, gather=40, compute=50, unit_mb=0.05, late=LATE)
    assert "R03" not in findings(tmp_path / "tiny", job(tiny), hosts=NODES)


def test_layers_that_are_parallel_among_nodes_are_no_shards(tmp_path: Path) -> None:
    traces = [on_gpu(Plan(late=LATE), rank, range(4), [[rank % 2, rank % 2 + 2]]) for rank in range(4)]
    assert "R03" not in findings(tmp_path, traces, hosts=NODES)
