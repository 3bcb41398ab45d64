"""Rules about what computes and where: each has a planted trace or run with its symptom, and ones without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprof.analysis.report import analyse
from shardprof.recording.environment import allowed
from shardprof.trace.run import load
from shardprof.trace.schema import (
    CapturePlan,
    CounterRecord,
    HostRecord,
    RankRecord,
    RunFolder,
    RunRecord,
    StepRecord,
    to_json,
    write_whole,
)
from tests.conftest import BASE_NS, WORKER, Trace
from tests.unit.builders import collective, findings

US, MS = 1_000, 1_000_000
STEPS, STEP_NS = 3, 100 * MS
Report = Callable[..., dict[str, Any]]


def found(result: Mapping[str, Any], rule: str) -> list[dict[str, Any]]:
    """What a rule found in a report."""
    return [finding for finding in result["findings"] if finding["rule"] == rule]


def recorded(
    root: Path, traces: Mapping[int, Trace], environment: Mapping[str, str] | None = None, **fields: Any
) -> Path:
    """A recorded run of these traces, one a rank. `fields` are those of each rank's record, or functions that give
    them for a rank; `cuda_memory` is what its steps say of memory, `links` the bytes that each node's links carried."""
    memory, links = fields.pop("cuda_memory", {}), fields.pop("links", {})
    for rank, made in traces.items():
        told = {name: value(rank) if callable(value) else value for name, value in fields.items()}
        defaults: dict[str, Any] = {
            "local_rank": rank,
            "host": "node-a",
            "pid": 1,
            "device": "cpu",
            "started_ns": 0,
            "versions": {},
        }
        folder = RunFolder(root).rank(rank)
        made.write(folder / "trace.json.gz")
        write_whole(folder / "rank.json", RankRecord(rank=rank, world_size=len(traces), **(defaults | told)))
        records = [
            StepRecord(step=n, begin_ns=BASE_NS + n * STEP_NS, end_ns=BASE_NS + (n + 1) * STEP_NS, cuda_memory=memory)
            for n in range(STEPS)
        ]
        (folder / "steps.jsonl").write_text("".join(to_json(record) + "\n" for record in records))
        _record_host(root, str((defaults | told)["host"]), links)
    plan = CapturePlan()
    record = RunRecord(
        command=("train",), launcher="", started_ns=0, plan=plan, versions={}, environment=dict(environment or {})
    )
    write_whole(root / "run.json", record)
    return root


def _record_host(root: Path, name: str, links: Mapping[str, float]) -> None:
    folder = RunFolder(root).host(name)
    folder.mkdir(parents=True, exist_ok=True)
    record = HostRecord(name=name, identity=name, launcher_pid=1, cpu_count=2, memory_bytes=1)
    write_whole(folder / "host.json", record)
    samples = [
        CounterRecord(
            time_ns=time_ns, source="host", values={link: {"tx_bytes": total} for link, total in sent.items()}
        )
        for time_ns, sent in ((BASE_NS - MS, dict.fromkeys(links, 0.0)), (BASE_NS + (STEPS + 1) * STEP_NS, links))
    ]
    (folder / "counters.jsonl").write_text("".join(to_json(sample) + "\n" for sample in samples))


class Gpu(Trace):
    """A trace of a GPU whose host launches a kernel in a call and goes on."""

    correlations = 0

    def run(
        self,
        name: str,
        call: int,
        begin: int,
        end: int,
        *,
        stream: int = 7,
        cat: str = "kernel",
        grid: list[int] | None = None,
    ) -> None:
        """A kernel and its launch."""
        self.correlations += 1
        self.launch(self.correlations, call).kernel(
            name, begin, end, stream=stream, cat=cat, correlation=self.correlations, grid=grid or [1, 1, 1]
        )

    def wait(self, begin: int, end: int) -> None:
        """The host waits for the device."""
        self.event("cudaDeviceSynchronize", begin, end, cat="cuda_runtime")


ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)"
FOREACH = "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::TensorListMetadata<4>>(int)"
GEMM = "ampere_sgemm_128x64_tn"


def updated_on_gpu(
    kernels: int = 400,
    kernel: str = ELEMENTWISE,
    *,
    length_ns: int = 4 * US,
    optimizer: str = "AdamW",
    closure: bool = False,
) -> Gpu:
    """Steps of 100 ms: 80 ms of a GEMM, then an optimizer that launches a kernel every 30 us."""
    made = Gpu()
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS)
        made.event("autograd::engine::evaluate_function: MmBackward0", begin + MS, begin + 2 * MS)
        made.run(GEMM, begin + MS, begin + 2 * MS, begin + 80 * MS)
        made.wait(begin + 2 * MS, begin + 80 * MS)
        at = begin + 81 * MS
        made.event(f"Optimizer.step#{optimizer}.step", at, at + 12 * MS, cat="user_annotation")
        if closure:
            made.event("autograd::engine::evaluate_function: MmBackward0", at + US, at + 2 * US)
        for i in range(kernels):
            call = at + (i + 1) * 12 * MS // (kernels + 1)
            made.run(kernel, call, call + 6 * US, call + 6 * US + length_ns)
        made.wait(at + 12 * MS, begin + STEP_NS - MS)
    return made


def test_an_optimizer_of_many_kernels_costs_its_range(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(updated_on_gpu().write(tmp_path / "trace.json")), "R32")
    assert finding["title"] == "AdamW updates tensor by tensor: 400 small kernels a step"
    assert finding["cost_ns_per_step"] == pytest.approx(12 * MS, rel=0.05)
    assert finding["knob"] == "torch.optim.AdamW(model.parameters(), fused=True)"
    assert "4.0 µs" in finding["evidence"][0]["message"]


@pytest.mark.parametrize(
    "made",
    [
        updated_on_gpu(kernels=80),
        updated_on_gpu(kernels=150, kernel=FOREACH),
        updated_on_gpu(kernels=200, length_ns=40 * US),
        updated_on_gpu(closure=True),
    ],
    ids=["few kernels", "fused", "long kernels", "a closure that computes gradients in the optimizer's range"],
)
def test_other_optimizers_on_gpus_are_not_unfused(made: Trace, tmp_path: Path, report: Report) -> None:
    assert not found(report(made.write(tmp_path / "trace.json")), "R32")


def test_kernels_of_other_phases_are_not_the_optimizers(tmp_path: Path, report: Report) -> None:
    made = updated_on_gpu(kernels=10)
    for number in range(STEPS):
        for i in range(400):
            call = number * STEP_NS + 95 * MS + i * 8 * US
            made.run(ELEMENTWISE, call, call + 4 * US, call + 6 * US)
    assert not found(report(made.write(tmp_path / "trace.json")), "R32")


@pytest.mark.parametrize(("optimizer", "how"), [("RMSprop", "foreach=True"), ("Lion", "torch.compile(optimizer.step)")])
def test_optimizers_without_fused_kernels_have_other_knobs(
    optimizer: str, how: str, tmp_path: Path, report: Report
) -> None:
    (finding,) = found(report(updated_on_gpu(optimizer=optimizer).write(tmp_path / "trace.json")), "R32")
    assert how in finding["knob"]


def updated_on_cpu(
    tensors: int = 50, *, optimizer_ms: int = 10, extra: str = "aten::addcdiv_", name: str = "AdamW"
) -> Trace:
    """Steps of 100 ms of a CPU, whose optimizer has five operators a tensor."""
    made = Trace()
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS).event("aten::mm", begin + MS, begin + 70 * MS)
        at, length = begin + 75 * MS, optimizer_ms * MS
        made.event(f"Optimizer.step#{name}.step", at, at + length, cat="user_annotation")
        names = ["aten::mul_", "aten::lerp_", "aten::addcmul_", "aten::sqrt", extra] * tensors
        for i, operator in enumerate(names):
            op = at + (i + 1) * length // (len(names) + 1)
            end = op + min(length // (2 * len(names)), 10 * US)
            made.event(operator, op, end + US).event(operator, op + US, end)  # as of a DTensor
    return made


def test_an_optimizer_of_many_operators_costs_its_range(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(updated_on_cpu().write(tmp_path / "trace.json")), "R32")
    assert finding["title"] == "AdamW updates tensor by tensor: 250 small operators a step"
    assert finding["cost_ns_per_step"] == pytest.approx(10 * MS, rel=0.05)


@pytest.mark.parametrize(
    "made",
    [
        updated_on_cpu(optimizer_ms=2),
        updated_on_cpu(tensors=15),
        updated_on_cpu(extra="aten::_fused_adamw_"),
        updated_on_cpu(name="RMSprop"),
    ],
    ids=["short", "few tensors", "fused", "one that has no fused kernel on CPUs"],
)
def test_other_optimizers_on_cpus_are_not_unfused(made: Trace, tmp_path: Path, report: Report) -> None:
    assert not found(report(made.write(tmp_path / "trace.json")), "R32")


NODE = "autograd::engine::evaluate_function: "


def checkpointed_on_cpu(node: str = "AddmmBackward0", *, again_ms: int = 20, operator: str = "aten::linear") -> Trace:
    """Steps of 100 ms of a CPU, in whose backward a node runs operators of a forward before its own."""
    made = Trace()
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS).event("aten::linear", begin + MS, begin + 21 * MS)
        at = begin + 30 * MS
        made.event(NODE + node, at, at + 60 * MS).event(node, at, at + 60 * MS)
        half = again_ms * MS // 2
        made.event("aten::mul", at + MS, at + MS + half)
        made.event(operator, at + MS + half, at + MS + 2 * half)
        if node == "CheckpointFunctionBackward":
            made.event(NODE + "AddmmBackward0", at + 30 * MS, at + 59 * MS)
        made.event("aten::mm", at + 31 * MS, at + 58 * MS)
    return made


@pytest.mark.parametrize("node", ["AddmmBackward0", "CheckpointFunctionBackward"])
def test_a_forward_inside_backward_costs_what_it_computes(node: str, tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(checkpointed_on_cpu(node).write(tmp_path / "trace.json")), "R31")
    assert finding["title"] == "Backward computes activations anew, 20 % of a step"
    assert finding["cost_ns_per_step"] == pytest.approx(20 * MS, rel=0.01)
    assert "is not told of a CPU" in finding["evidence"][1]["message"]


@pytest.mark.parametrize(
    "made",
    [
        checkpointed_on_cpu(again_ms=8),
        checkpointed_on_cpu(operator="aten::gelu_backward"),
        checkpointed_on_cpu("FusedLinearCrossEntropyBackward"),
        checkpointed_on_cpu("torch::autograd::AccumulateGrad"),
    ],
    ids=["little", "operators of backward", "a function that computes anew by itself", "a hook of a gradient"],
)
def test_backward_alone_is_not_recomputed(made: Trace, tmp_path: Path, report: Report) -> None:
    assert not found(report(made.write(tmp_path / "trace.json")), "R31")


GB = 1_000_000_000
H100 = {"deviceProperties": [{"id": 0, "name": "NVIDIA H100", "totalGlobalMem": 80 * GB}]}


def checkpointed_on_gpu(again_ms: int = 20) -> Gpu:
    """Steps of 100 ms of a GPU, of which the host waits for all; backward is launched by a thread of its own."""
    made = Gpu(header=dict(H100))
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS)
        made.run(GEMM, begin + MS, begin + 2 * MS, begin + 30 * MS)
        made.event("aten::linear", begin + MS // 2, begin + 2 * MS)
        at = begin + 3 * MS
        made.event(NODE + "AddmmBackward0", at, at + 2 * MS, tid=WORKER)
        made.event("aten::linear", at + 100 * US, at + 200 * US, tid=WORKER)
        end = begin + 30 * MS
        for call, length in ((at + 110 * US, again_ms * MS), (at + 300 * US, 40 * MS)):
            made.correlations += 1
            made.event(
                "cudaLaunchKernel", call, call + US, cat="cuda_runtime", tid=WORKER, correlation=made.correlations
            )
            made.kernel(GEMM, end, end + length, correlation=made.correlations)
            end += length
        made.wait(at + 3 * MS, end)
    return made


def test_kernels_of_recomputation_are_told_by_their_launches(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(checkpointed_on_gpu().write(tmp_path / "trace.json")), "R31")
    assert finding["cost_ns_per_step"] == pytest.approx(20 * MS, rel=0.02)
    assert "was not recorded" in finding["evidence"][1]["message"]
    assert not found(report(checkpointed_on_gpu(again_ms=8).write(tmp_path / "trace.json")), "R31")


def test_activations_are_kept_where_memory_is_free(tmp_path: Path, report: Report) -> None:
    def recomputing(peak_gb: int) -> list[dict[str, Any]]:
        memory = {"peak_reserved_bytes": peak_gb * GB}
        run = tmp_path / str(peak_gb)
        return found(report(recorded(run, {0: checkpointed_on_gpu()}, device="cuda", cuda_memory=memory)), "R31")

    assert recomputing(40)[0]["evidence"][1]["message"] == "50 % of the device's memory was never reserved"
    assert not recomputing(60)


ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
NORM = "void at::native::vectorized_layer_norm_kernel<float>(int)"


def crowded(
    slower: float = 1.3,
    *,
    layers: int = 6,
    spread: float = 0.01,
    other_place: bool = False,
    other_grid: bool = False,
    others: float = 1.0,
) -> Gpu:
    """Steps of 100 ms of a GPU: `layers` GEMMs of 3 ms alone, then as many that are `slower` beside an all-reduce,
    each after a norm; in `other_place` those beside it come after another kernel, or have an `other_grid`.
    Convolutions of 2 ms after them are slower by `others`."""
    made = Gpu()
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS)
        at = begin + MS
        for layer in range(2 * layers):
            is_beside = layer >= layers
            if layer == layers:
                made.run(ALL_REDUCE, begin + US, at, begin + 90 * MS, stream=20)
            before = "void another_kernel(int)" if is_beside and other_place else NORM
            lengths = {before: 0.1, GEMM: 3 * (slower if is_beside else 1), "conv": 2 * (others if is_beside else 1)}
            for name, length_ms in lengths.items():
                length = round(length_ms * MS * (1 + spread * (layer % 3 - 1)))
                grid = [2 if other_grid and is_beside else 1, 1, 1]
                made.run(name, begin + US, at, at + length, grid=grid)
                at += length
        assert at < begin + 90 * MS
        made.wait(begin + MS, begin + 90 * MS)
    return made


def test_kernels_that_are_slower_beside_communication_cost_the_difference(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(crowded().write(tmp_path / "trace.json")), "R33")
    assert finding["cost_ns_per_step"] == pytest.approx(6 * 0.3 * 3 * MS, rel=0.05)
    assert finding["title"] == "Kernels are slower beside communication, by 5 % of a step"
    assert f"{GEMM} takes 3,900.0 µs beside it and 3,000.0 µs alone" in finding["evidence"][0]["message"]
    assert finding["evidence"][1]["begin_ns"] is not None


@pytest.mark.parametrize(
    "made",
    [
        crowded(1.0),
        crowded(1.1),
        crowded(4.0, layers=4),
        crowded(1.3, others=0.6),
        crowded(1.3, layers=1),
        crowded(1.3, spread=0.2),
        crowded(1.3, other_place=True),
        crowded(1.3, other_grid=True),
    ],
    ids=[
        "as fast",
        "hardly slower",
        "other work",
        "others win as much",
        "few runs",
        "runs that differ anyway",
        "another place of the model",
        "another grid",
    ],
)
def test_kernels_that_have_other_work_are_not_crowded(made: Trace, tmp_path: Path, report: Report) -> None:
    assert not found(report(made.write(tmp_path / "trace.json")), "R33")


FSDP2 = {"strategy": "full shard", "parameters": 500_000_000, "micro_batch_size": 4}
ALL_GATHER = "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def communicating(all_gather_ms: int = 40) -> Gpu:
    """Steps of 100 ms of a GPU: an all-gather, then 30 ms of compute."""
    made = Gpu(header=dict(H100))
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS)
        gathered = begin + (1 + all_gather_ms) * MS
        made.run(ALL_GATHER, begin + US, begin + MS, gathered, stream=20)
        made.run(GEMM, begin + 2 * US, gathered, gathered + 30 * MS)
        made.wait(begin + MS, gathered + 30 * MS)
    return made


def with_memory(
    root: Path, made: Trace, peak_gb: float, settings: Mapping[str, Any] = FSDP2, framework: str = "FSDP2"
) -> Path:
    """A recorded run of one rank whose allocator reserved so much."""
    memory = {"peak_reserved_bytes": round(peak_gb * GB)}
    return recorded(root, {0: made}, device="cuda", settings=dict(settings), framework=framework, cuda_memory=memory)


def test_a_model_that_fits_whole_is_sharded_too_much(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(with_memory(tmp_path, communicating(), 60)), "R23")
    assert finding["cost_ns_per_step"] == pytest.approx(40 * MS, rel=0.01)
    assert "reshard_after_forward=False" in finding["knob"]
    assert "8 GB are parameters" in finding["evidence"][0]["message"]
    assert "60 GB of its GPU's 80 GB" in finding["evidence"][0]["message"]


@pytest.mark.parametrize(
    ("framework", "strategy", "knob"),
    [
        ("FSDP1", "full shard", "SHARD_GRAD_OP"),
        ("FSDP1", "SHARD_GRAD_OP", "DistributedDataParallel(model)"),
        ("DeepSpeed", "ZeRO-3", '"stage": 1'),
    ],
)
def test_frameworks_shard_less_in_ways_of_their_own(
    framework: str, strategy: str, knob: str, tmp_path: Path, report: Report
) -> None:
    settings = {**FSDP2, "strategy": strategy}
    (finding,) = found(report(with_memory(tmp_path, communicating(), 60, settings, framework)), "R23")
    assert knob in finding["knob"]


@pytest.mark.parametrize(
    ("all_gather_ms", "peak_gb", "changed"),
    [
        (40, 60, {"parameters": 2_000_000_000}),
        (40, 70, {}),
        (8, 60, {}),
        (40, 60, {"strategy": "DDP"}),
        (40, 0, {}),
    ],
    ids=["a large model", "no memory left", "gathered quickly", "not sharded", "memory not recorded"],
)
def test_other_models_are_not_sharded_too_much(
    all_gather_ms: int, peak_gb: float, changed: dict[str, Any], tmp_path: Path, report: Report
) -> None:
    run = with_memory(tmp_path, communicating(all_gather_ms), peak_gb, {**FSDP2, **changed})
    assert not found(report(run), "R23")


def test_a_larger_batch_fits_where_communication_is_waited_for(tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(with_memory(tmp_path, communicating(), 36)), "R24")
    assert finding["cost_ns_per_step"] == pytest.approx(40 * MS / 2, rel=0.01)
    assert finding["knob"] == "DataLoader(batch_size=...): from 4 to 8"


@pytest.mark.parametrize(("all_gather_ms", "peak_gb"), [(40, 50), (5, 36), (40, 0)])
def test_batches_stay_where_memory_or_compute_is_what_bounds(
    all_gather_ms: int, peak_gb: float, tmp_path: Path, report: Report
) -> None:
    assert not found(report(with_memory(tmp_path, communicating(all_gather_ms), peak_gb)), "R24")


def test_without_the_devices_memory_nothing_is_said_of_it(tmp_path: Path, report: Report) -> None:
    made = communicating()
    made.header.clear()
    result = report(with_memory(tmp_path, made, 36))
    assert not found(result, "R23") + found(result, "R24")


OFFLOADED = {"offload_optimizer": "cpu", "offload_param": "", "state_bytes": {"optimizer": 6 * GB}}


def offloaded(*, copies_ms: int = 0, update_ms: int = 0, kernel_in_update: bool = False, beside: bool = False) -> Gpu:
    """Steps of 100 ms of a GPU: 20 ms of compute, then gradients to the host, an update there, parameters back; copies
    `beside` the compute cost nothing."""
    made = Gpu()
    for number in range(STEPS):
        begin = number * STEP_NS
        made.step(number, begin, begin + STEP_NS)
        made.run(GEMM, begin + MS, begin + MS, begin + 21 * MS)
        at = begin + (2 if beside else 21) * MS
        half = copies_ms * MS // 2
        made.run("Memcpy DtoH (Device -> Pinned)", begin + 2 * MS, at, at + half, stream=9, cat="gpu_memcpy")
        at = max(at + half, begin + 21 * MS) if not beside else begin + 21 * MS
        made.wait(begin + 3 * MS, at)
        made.event("Optimizer.step#DeepSpeedCPUAdam.step", at, at + update_ms * MS + US, cat="user_annotation")
        if kernel_in_update:
            made.run(FOREACH, at + US // 2, at + US, at + update_ms * MS)
        at += update_ms * MS + US
        if not beside:
            made.run("Memcpy HtoD (Pinned -> Device)", at, at + US, at + half, stream=9, cat="gpu_memcpy")
            made.wait(at + US, at + half)
    return made


def test_copies_of_what_is_offloaded_cost_what_is_exposed(tmp_path: Path, report: Report) -> None:
    run = recorded(
        tmp_path, {0: offloaded(copies_ms=40)}, device="cuda", settings=dict(OFFLOADED), framework="DeepSpeed"
    )
    (finding,) = found(report(run), "R22")
    assert finding["cost_ns_per_step"] == pytest.approx(40 * MS, rel=0.01)
    assert '"ratio": 0.5' in finding["knob"]
    assert finding["side_effect"] == "memory of the GPU: 6 GB of optimizer states a rank"


def test_an_optimizer_on_the_cpu_costs_its_time(tmp_path: Path, report: Report) -> None:
    run = recorded(tmp_path, {0: offloaded(update_ms=50)}, device="cuda", settings={"cpu_offload": True})
    (finding,) = found(report(run), "R22")
    assert finding["cost_ns_per_step"] == pytest.approx(50 * MS, rel=0.01)
    assert finding["evidence"][0]["message"] == "DeepSpeedCPUAdam updates on the CPU, 50 ms a step"


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        (offloaded(copies_ms=18), OFFLOADED),
        (offloaded(copies_ms=38, beside=True), OFFLOADED),
        (offloaded(update_ms=28), OFFLOADED),
        (offloaded(update_ms=50, kernel_in_update=True), OFFLOADED),
        (offloaded(copies_ms=40), {"offload_optimizer": "", "cpu_offload": False}),
        (offloaded(copies_ms=40), {"offload_optimizer": "none"}),
        (offloaded(copies_ms=40), {}),
    ],
    ids=["few copies", "hidden copies", "a short update", "an update on the GPU", "off", "none", "not told"],
)
def test_other_copies_and_updates_are_not_offloading(
    made: Trace, settings: dict[str, Any], tmp_path: Path, report: Report
) -> None:
    assert not found(report(recorded(tmp_path, {0: made}, device="cuda", settings=settings)), "R22")


def of_nodes(
    root: Path,
    environment: Mapping[str, str],
    *,
    nodes: int = 2,
    links: Mapping[str, float] | None = None,
    made: Callable[[], Gpu] = communicating,
) -> Path:
    """A recorded run of two ranks on so many nodes, whose links carried these bytes."""
    carried = {"eth0": 9e9, "mlx5_0/1": 1e6} if links is None else links
    return recorded(
        root,
        {rank: made() for rank in range(2)},
        {"NCCL_DEBUG": "INFO", **allowed(environment)},
        device="cuda",
        host=lambda rank: f"node-{rank % nodes}",
        links=carried,
    )


@pytest.mark.parametrize(
    ("variable", "value", "nodes"),
    [
        ("NCCL_IB_DISABLE", "1", 2),
        ("NCCL_NET", "Socket", 2),
        ("NCCL_P2P_DISABLE", "1", 1),
        ("NCCL_SHM_DISABLE", "1", 1),
    ],
)
def test_a_way_that_nccl_may_not_take(variable: str, value: str, nodes: int, tmp_path: Path, report: Report) -> None:
    (finding,) = found(report(of_nodes(tmp_path, {variable: value}, nodes=nodes)), "R20")
    assert f"{variable}={value}" in finding["title"]
    assert finding["knob"] == f"unset {variable}"
    assert finding["cost_ns_per_step"] == pytest.approx(40 * MS, rel=0.01)


@pytest.mark.parametrize(
    ("environment", "changed"),
    [
        ({"NCCL_IB_DISABLE": "0", "NCCL_NET": "IB"}, {}),
        ({"NCCL_IB_DISABLE": "1"}, {"nodes": 1}),
        ({"NCCL_P2P_DISABLE": "1"}, {"nodes": 2}),
        ({"NCCL_IB_DISABLE": "1"}, {"links": {"eth0": 9e9}}),
        ({"NCCL_IB_DISABLE": "1"}, {"links": {"eth0": 1e6, "mlx5_0/1": 9e9}}),
        ({"NCCL_IB_DISABLE": "1"}, {"made": lambda: communicating(all_gather_ms=2)}),
        ({}, {}),
    ],
    ids=["allowed", "one node", "one rank a node", "no InfiniBand", "InfiniBand at work", "hardly any", "not set"],
)
def test_ways_that_nccl_could_not_take_anyway(
    environment: dict[str, str], changed: dict[str, Any], tmp_path: Path, report: Report
) -> None:
    assert not found(report(of_nodes(tmp_path, environment, **changed)), "R20")


@pytest.mark.parametrize(("busbw_gbps", "megabytes", "is_slow"), [(1.2, 50, True), (8.0, 50, False), (1.2, 1, False)])
def test_sockets_are_told_by_a_low_bandwidth_beside_idle_infiniband(
    busbw_gbps: float, megabytes: int, *, is_slow: bool, tmp_path: Path
) -> None:
    measured = analyse(load([of_nodes(tmp_path, {})]))
    row = collective(
        "all_gather", "0", [0, 1], nodes=2, calls=2, payload_bytes=2 * megabytes * MS, busbw_gbps=busbw_gbps
    )
    found_here = [finding for finding in findings(replace(measured, collectives=(row,))) if finding.rule == "R20"]
    assert bool(found_here) == is_slow


def of_ranks(root: Path, *, headers: tuple[dict[str, Any], ...] = (H100, H100, H100), **fields: Any) -> Path:
    """A recorded run of three ranks with these headers of their traces."""
    traces = {}
    for rank, header in enumerate(headers):
        traces[rank] = communicating()
        traces[rank].header = dict(header)
    versions = {"python": "3.11.7", "torch": "2.13.0", "cuda": "13.0"}
    told: dict[str, Any] = {
        "versions": versions,
        "settings": dict(FSDP2),
        "framework": "FSDP2",
        "device": "cuda",
    } | fields
    return recorded(root, traces, **told)


def of_rank_2(usual: Any, other: Any) -> Callable[[int], Any]:
    """A field that is another one on the last rank."""
    return lambda rank: other if rank == 2 else usual


A100 = {"deviceProperties": [{"id": 0, "name": "NVIDIA A100", "totalGlobalMem": 80 * GB}]}


@pytest.mark.parametrize(
    ("changed", "title", "evidence", "knob"),
    [
        (
            {"versions": of_rank_2({"torch": "2.13.0"}, {"torch": "2.12.1", "deepspeed": "0.19.0"})},
            "Ranks of one run differ in torch",
            "torch: 2.13.0 on ranks 0-1; 2.12.1 on rank 2",
            "one container image",
        ),
        (
            {"headers": (A100, H100, H100)},
            "Ranks of one run differ in GPU",
            "GPU: NVIDIA H100 on ranks 1-2; NVIDIA A100 on rank 0",
            "nodes of one kind",
        ),
        (
            {"settings": of_rank_2(FSDP2, {**FSDP2, "micro_batch_size": 8, "parameters": 1})},
            "Ranks of one run differ in micro_batch_size",
            "micro_batch_size: 4 on ranks 0-1; 8 on rank 2",
            "the same configuration",
        ),
        (
            {"headers": tuple({**H100, "cuda_driver_version": version} for version in (13000, 13000, 12090))},
            "Ranks of one run differ in CUDA driver",
            "CUDA driver: 13000 on ranks 0-1; 12090 on rank 2",
            "one container image",
        ),
    ],
)
def test_ranks_that_differ(
    changed: dict[str, Any], title: str, evidence: str, knob: str, tmp_path: Path, report: Report
) -> None:
    (finding,) = found(report(of_ranks(tmp_path, **changed)), "R35")
    assert (finding["title"], finding["evidence"][0]["message"]) == (title, evidence)
    assert knob in finding["knob"]
    assert finding["cost_ns_per_step"] is None


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"settings": of_rank_2(FSDP2, {**FSDP2, "parameters": 1, "state_bytes": {"optimizer": 1}})},
        {"settings": of_rank_2(FSDP2, {})},
        {"headers": (H100, H100, {})},
    ],
    ids=["alike", "unlike parts of the model", "settings not told", "GPU not told"],
)
def test_ranks_that_are_alike(changed: dict[str, Any], tmp_path: Path, report: Report) -> None:
    assert not found(report(of_ranks(tmp_path, **changed)), "R35")
