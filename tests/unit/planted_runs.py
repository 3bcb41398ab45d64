"""Traces and recorded runs with planted symptoms, made of the work on a GPU. Times are microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardprof.analysis.report import analyse
from shardprof.analysis.result import Finding
from shardprof.trace.run import load
from shardprof.trace.schema import (
    CapturePlan,
    RankRecord,
    RunFolder,
    RunRecord,
    write_whole,
)
from tests.conftest import MAIN, Trace, distributed_info

US, MB = 1_000, 1_000_000
COMPUTE, COMM = 7, 20
STEPS, STEP = 4, 10_000
NCCL = {"all_gather": "_allgather_base", "reduce_scatter": "_reduce_scatter_base", "all_reduce": "allreduce"}
FSDP2 = {
    "strategy": "full shard", "mesh": [2], "units": 4, "units_gathered_again": 4, "units_reduced": 4,
    "parameters": 20 * MB, "parameter_bytes": 80 * MB, "gradient_bytes": 80 * MB, "gather_bytes": 80 * MB,
    "gather_again_bytes": 80 * MB, "reduce_bytes": 80 * MB,
}  # fmt: skip
COPY_BACK, COPY_OVER = "Memcpy DtoH (Device -> {})", "Memcpy HtoD ({} -> Device)"
Plant = Callable[["Planted", int], object]


class Planted(Trace):
    """A trace in microseconds of a rank with a GPU."""

    def cpu(self, begin: int, end: int, name: str = "aten::add", *, tid: int = MAIN) -> Planted:
        self.event(name, begin * US, end * US, tid=tid)
        return self

    def range(self, name: str, begin: int, end: int, *, tid: int = MAIN) -> Planted:
        self.event(name, begin * US, end * US, cat="user_annotation", tid=tid)
        return self

    def api(self, name: str, begin: int, end: int, correlation: int | None = None, *, tid: int = MAIN) -> Planted:
        carried = {} if correlation is None else {"correlation": correlation}
        self.event(name, begin * US, end * US, cat="cuda_runtime", tid=tid, **carried)
        return self

    def run(self, begin: int, end: int, *, launch: int, name: str = "gemm", stream: int = 7) -> Planted:
        """A kernel or copy that a call of 4 us launches."""
        call = "cudaMemcpyAsync" if name.startswith("Memcpy") else "cudaLaunchKernel"
        return self.running(name, begin, end, call=(call, launch, launch + 4), stream=stream)

    def running(self, name: str, begin: int, end: int, *, call: tuple[str, int, int], stream: int = 7) -> Planted:
        """What that call launches on the GPU."""
        correlation = len(self.events)
        self.api(*call, correlation)
        category = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        self.kernel(name, begin * US, end * US, stream=stream, cat=category, correlation=correlation)
        return self

    def item(self, begin: int, end: int) -> Planted:
        """`tensor.item()`, which waits from begin to end for the GPU."""
        self.cpu(begin, end, "aten::item").cpu(begin + 1, end - 1, "aten::_local_scalar_dense")
        name = COPY_BACK.format("Pageable")
        self.running(name, end - 12, end - 10, call=("cudaMemcpyAsync", begin + 2, end - 8))
        return self.api("cudaStreamSynchronize", end - 7, end - 3)


def planted(plant: Plant, steps: int = STEPS, *, first: int = 7, header: Mapping[str, Any] | None = None) -> Planted:
    """Steps in each of which `plant` puts what it is about, given when the step begins."""
    made = Planted(header=dict(header or {}))
    for number in range(steps):
        made.step(first + number, number * STEP * US, (number + 1) * STEP * US)
        plant(made, number * STEP)
    return made


@dataclass
class Gpu:
    """Steps on a GPU. The host launches all of a phase at its begin and synchronizes when the step ends.

    The last of the `groups` communicates, all ranks where there are none.
    """

    rank: int = 0
    ranks: Sequence[int] = (0, 1)
    groups: Sequence[list[int]] = ()
    trace: Trace = field(default_factory=Trace)
    now: int = 0
    device: int = 0
    free: dict[int, int] = field(default_factory=dict)
    launched: int = 0

    def __post_init__(self) -> None:
        self.trace.header = {
            **distributed_info(self.rank, list(self.ranks), *self.groups),
            "deviceProperties": [{"name": "H100"}],
        }

    def launch(self, kernel: str, us: int, stream: int = COMPUTE, *, after: int = 0, **told: Any) -> int:
        """A kernel of `us` that waits for the time `after`; returns its end."""
        self.launched += 1
        self.trace.event("cudaStreamWaitEvent", self.now * US, (self.now + 1) * US, cat="cuda_runtime")
        call = {"cat": "cuda_runtime", "correlation": self.launched}
        self.trace.event("cudaLaunchKernel", (self.now + 1) * US, (self.now + 2) * US, **call)
        self.now += 3
        begin = max(self.now, after, self.free.get(stream, 0))
        self.free[stream] = begin + us
        self.trace.kernel(kernel, begin * US, (begin + us) * US, stream=stream, correlation=self.launched, **told)
        return begin + us

    def communicate(self, kind: str, us: int, mb: float, *, after: int = 0) -> int:
        """A collective of NCCL that moves `mb` of floats."""
        whole = round(mb * MB / 4)
        shard = whole // len(self.ranks)
        told = {
            "Collective_name": NCCL[kind], "dtype": "Float", "Process_Group_Name": str(len(self.groups)),
            "In_msg_nelems": shard if kind == "all_gather" else whole,
            "Out_msg_nelems": shard if kind == "reduce_scatter" else whole,
        }  # fmt: skip
        return self.launch(f"ncclDevKernel_{kind}", us, COMM, after=after, **told)

    def compute(self, us: int, *, after: int = 0) -> int:
        """Five kernels, one right after the other."""
        return [self.launch("gemm", us // 5, after=after) for _ in range(5)][-1] if us else after

    def operators(self) -> None:
        """A forward's, which part it from the backward before."""
        for _ in range(5):
            self.trace.event("aten::linear", self.now * US, (self.now + 1) * US)
            self.now += 1

    def units(self, count: int, gather: int, compute: int, mb: float, *, late: bool) -> None:
        """Units that compute one after the other; late ones are gathered when the one before is done."""
        computed = gathered = max(self.free.values(), default=0)
        begun = computed
        for _ in range(count):
            if gather:
                gathered = self.communicate("all_gather", gather, mb, after=computed if late else begun)
            begun = max(gathered, computed)
            computed = self.compute(compute, after=begun)

    def backward(self, begin: int) -> None:
        """What was launched since then was launched by autograd."""
        node = "autograd::engine::evaluate_function: AddmmBackward0"
        self.trace.event(node, begin * US, self.now * US)

    def optimizer(self, begin: int) -> None:
        """What was launched since then was launched by the optimizer's step."""
        self.trace.event("Optimizer.step#AdamW.step", begin * US, self.now * US, cat="user_annotation")

    def end_step(self, number: int, begin: int) -> None:
        """The host waits for the GPU."""
        end = max(self.free.values()) + 5
        call = {"cat": "cuda_runtime", "correlation": 10_000 + number}
        self.trace.event("cudaDeviceSynchronize", self.now * US, end * US, **call)
        self.now = end + 5
        self.trace.step(number, begin * US, self.now * US)


@dataclass(frozen=True)
class Plan:
    """What a step does: times in microseconds; `late` are the phases whose all-gathers come too late."""

    units: int = 4
    gather: int = 200
    compute: int = 400
    unit_mb: float = 20
    late: tuple[str, ...] = ()
    gathers_again: bool = True
    after_step: int = 0
    reduce: int = 0
    reduce_kind: str = "reduce_scatter"
    head: int = 0
    tail: int = 0


def on_gpu(plan: Plan, rank: int = 0, ranks: Sequence[int] = (0, 1), groups: Sequence[list[int]] = ()) -> Trace:
    gpu = Gpu(rank, ranks, groups)
    for number in range(3):
        begin = gpu.now
        gpu.operators()
        gpu.compute(plan.head)
        gpu.units(plan.units, plan.gather, plan.compute, plan.unit_mb, late="forward" in plan.late)
        backward = gpu.now
        if plan.gathers_again:
            gpu.units(plan.units, plan.gather, plan.compute, plan.unit_mb, late="backward" in plan.late)
        else:
            gpu.compute(plan.units * plan.compute)
        if plan.reduce:
            gpu.communicate(plan.reduce_kind, plan.reduce, plan.units * plan.unit_mb, after=gpu.free[COMPUTE])
        gpu.backward(backward)
        optimizer = gpu.now
        adam = gpu.launch("adam", 100, after=max(gpu.free.values()))
        if plan.after_step:
            gpu.communicate("all_gather", plan.after_step, plan.units * plan.unit_mb, after=adam)
        gpu.compute(plan.tail)
        gpu.optimizer(optimizer)
        gpu.end_step(number, begin)
    return gpu.trace


def findings(
    root: Path, traces: Sequence[Trace], framework: str = "FSDP2", settings: Mapping[str, Any] = FSDP2,
    hosts: Sequence[str] = (), device: str = "cuda",
) -> dict[str, Finding]:  # fmt: skip
    """What the rules find in the recorded run of these ranks, by rule."""
    for rank, trace in enumerate(traces):
        folder = RunFolder(root).rank(rank)
        trace.write(folder / "trace.json.gz")
        record = RankRecord(
            rank=rank, world_size=len(traces), local_rank=0, host=hosts[rank] if hosts else "node-a", pid=1,
            device=device, started_ns=0, versions={}, framework=framework, settings=dict(settings),
        )  # fmt: skip
        write_whole(folder / "rank.json", record)
    run = RunRecord(command=("train",), launcher="", started_ns=0, plan=CapturePlan(), versions={}, environment={})
    write_whole(root / "run.json", run)
    found = analyse(load([root])).findings
    assert found is not None
    assert len({finding.rule for finding in found}) == len(found)
    return {finding.rule: finding for finding in found}
